import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from virnuc_dask.sequences import partitions
from virnuc_dask.sequences.bases import share_of_gc
from virnuc_dask.sequences.chunks import Chunks, Pieces, chunk_spans
from virnuc_dask.sequences.partitions import count_records, write_partitions
from virnuc_dask.sequences.records import Record
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import read_table
from virnuc_dask.tables.plan import Counts, PlannedPartition

CHUNK_LENGTH, ROWS = 30, 4
CHUNKS = Chunks(CHUNK_LENGTH)
PIECES = Pieces(40, 10, shortest_nt=20)
DNA = ("ACGTTGCAac" * 20)[:173]
LENGTHS = {"long": 173, "empty": 0, "exact": 30, "short": 12, "twin": 61}
RECORDS = [Record(row, name, DNA[:nt]) for row, (name, nt) in enumerate(LENGTHS.items())]
RECORDS.append(Record(5, "twin", DNA[:12]))


class Written(NamedTuple):
    folder: RunFolder
    counts: Counts
    partitions: tuple[PlannedPartition, ...]
    tables: list[list[dict]]  # rows of each partition

    @property
    def rows(self) -> list[dict]:
        return [row for table in self.tables for row in table]


@pytest.fixture
def folder(tmp_path) -> Callable[[], RunFolder]:
    """Makes a new run folder."""

    def make() -> RunFolder:
        made = RunFolder(Path(mkdtemp(dir=tmp_path)))
        made.prepare(resume=False, force=False)
        return made

    return make


@pytest.fixture
def write(folder) -> Callable[..., Written]:
    """Writes records into a new folder; counting alone gives the same counts."""

    def written(records, rows=ROWS, cutting=CHUNKS, nt=None) -> Written:
        out = folder()
        cut = iter(records), out, cutting, rows, lambda: "of the records", nt
        counts, parts = write_partitions(*cut)
        assert counts == count_records(iter(records), cutting)
        tables = [read_table(out.partition(part.index), part.content) for part in parts]
        assert [len(table) for table in tables] == [part.chunks for part in parts]
        assert [part.index for part in parts] == list(range(len(parts)))
        return Written(out, counts, parts, [table.to_pylist() for table in tables])

    return written


def spans_of(record):
    return list(chunk_spans(len(record.dna), CHUNK_LENGTH))


def test_partitions_hold_every_chunk_in_order_and_all_but_the_last_are_full(write):
    written = write(RECORDS)
    assert {len(table) for table in written.tables[:-1]} == {ROWS}
    assert 1 <= len(written.tables[-1]) <= ROWS
    assert written.rows == [
        {
            "chunk_id": f"{record.id}_chunk_{number}",
            "record_id": record.id,
            "record_index": record.index,
            "chunk_number": number,
            "start": start,
            "end": end,
            "sequence": record.dna[start:end],
        }
        for record in RECORDS
        for number, (start, end) in enumerate(spans_of(record), start=1)
    ]


def test_every_record_is_counted_and_in_the_record_table_an_empty_one_too(write):
    written = write(RECORDS)
    chunks = sum(len(spans_of(record)) for record in RECORDS)
    assert written.counts == Counts(
        records=6, chunks=chunks, length_nt=288, duplicate_ids=1, shorter_records=3
    )
    assert read_table(written.folder.records, "of the records").to_pylist() == [
        {
            "record_index": record.index,
            "record_id": record.id,
            "length_nt": len(record.dna),
            "chunks": len(spans_of(record)),
            "gc": share_of_gc(record.dna),
            "sample": "",
            "description": "",
            "mate": 0,
        }
        for record in RECORDS
    ]


def test_pieces_are_rows_with_the_names_of_chunks(write):
    written = write(RECORDS, 1000, PIECES, 10_000)
    long = [row for row in written.rows if row["record_id"] == "long"]
    spans = [(0, 40), (30, 70), (60, 100), (90, 130), (120, 160), (150, 173)]
    assert [(row["start"], row["end"]) for row in long] == spans
    assert [row["chunk_id"] for row in long] == [f"long_chunk_{n + 1}" for n in range(6)]
    assert all(row["sequence"] == DNA[row["start"] : row["end"]] for row in written.rows)
    assert [row["record_index"] for row in written.rows] == [0] * 6 + [2, 3, 4, 4, 5]
    assert written.counts.shorter_records == 3


@pytest.mark.parametrize("nt", [1, 39, 80, 100, 10_000])
@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_a_partition_of_pieces_is_full_by_its_nucleotides_or_its_rows(write, rows, nt):
    whole = write(RECORDS, 1000, PIECES, 10_000).rows
    written = write(RECORDS, rows, PIECES, nt)
    assert written.rows == whole
    for number, table in enumerate(written.tables):
        sizes = [len(row["sequence"]) for row in table]
        assert len(table) <= rows
        assert sum(sizes[:-1]) < nt, "full before its last row"
        if number < len(written.tables) - 1:
            assert len(table) == rows or sum(sizes) >= nt


@pytest.mark.parametrize("records", [[], [Record(0, "empty", "")]])
def test_an_input_without_chunks_has_no_partition_but_a_record_table(write, records):
    written = write(records)
    assert written.partitions == ()
    assert len(read_table(written.folder.records, "of the records")) == len(records)


@pytest.mark.parametrize(
    ("row", "other", "differing"),
    [
        (2, RECORDS[2], set()),
        (2, Record(2, "renamed", DNA[:30]), {1}),
        (2, Record(9, "exact", DNA[:30]), {1}),
        (4, Record(4, "twin", DNA[:60] + "T"), {2}),
    ],
)
def test_a_partitions_bytes_and_fingerprint_change_with_its_content_alone(
    write, row, other, differing
):
    one, two = write(RECORDS), write([*RECORDS[:row], other, *RECORDS[row + 1 :]])
    for old, new in zip(one.partitions, two.partitions, strict=True):
        files = [each.folder.partition(old.index).read_bytes() for each in (one, two)]
        is_same = old.index not in differing
        assert (old.content == new.content, files[0] == files[1]) == (is_same, is_same)


def test_what_cannot_be_read_or_written_ends_the_planning_without_a_record_table(folder):
    def broken():
        yield from RECORDS
        raise OSError("gone")

    unwritable = folder()
    unwritable.partition(1).mkdir()  # in the way of the file
    for records, out, message in (
        (broken(), folder(), "gone"),
        (RECORDS, unwritable, "part-00001"),
    ):
        with pytest.raises(OSError, match=message):
            write_partitions(records, out, CHUNKS, ROWS, lambda: "x")
        assert not out.records.exists()


class SlowestThread:
    """In the place of the writing thread: nothing is written before it is waited for."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "SlowestThread":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., object], *arguments: object) -> SimpleNamespace:
        return SimpleNamespace(result=partial(call, *arguments))


def test_no_more_is_read_ahead_than_a_few_partitions(folder, monkeypatch):
    most, read, written = 0, 0, 0

    def stream():
        nonlocal most, read
        for read in range(1, 200):
            most = max(most, read - ROWS * written)
            yield Record(read - 1, f"r{read}", DNA[:CHUNK_LENGTH])

    def write(*_: object) -> None:
        nonlocal written
        written += 1

    monkeypatch.setattr(partitions, "write_table", write)
    monkeypatch.setattr(partitions, "ThreadPoolExecutor", SlowestThread)
    write_partitions(stream(), folder(), CHUNKS, ROWS, lambda: "x")
    assert written == 50
    assert most == 5 * ROWS, "four wait to be written, one is read"


MEASURE = """
import sys
from pathlib import Path
from virnuc_dask.sequences.chunks import Chunks
from virnuc_dask.sequences.partitions import write_partitions
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.folder import RunFolder

def peak_kib():
    # Not getrusage: a child's begins with its parent's.
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1])

folder = RunFolder(Path(sys.argv[1]))
folder.path.mkdir()
folder.prepare(resume=False, force=False)
before = peak_kib()
counts, _ = write_partitions(read_records([sys.argv[2]]), folder, Chunks(500), 1000, lambda: "x")
print(counts.length_nt, (peak_kib() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is in /proc")
@pytest.mark.parametrize(
    ("record_nt", "records", "bytes_per_nt"), [(5_000, 16_000, 1), (30_000_000, 1, 6)]
)
def test_memory_follows_the_longest_record_and_not_the_input(
    tmp_path, record_nt, records, bytes_per_nt
):
    line = "ACGTTGCATGCCATAGGCATTCGGATTACAGGCATCGATCGAGGCTATTCGAGCATTCGGCATACGGATCGATTACGGAG\n"
    entry = ">r\n" + line * (record_nt // (len(line) - 1))
    (tmp_path / "in.fa").write_text(entry * records)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "out"), str(tmp_path / "in.fa")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    length_nt, taken_bytes = map(int, done.stdout.split())
    assert length_nt >= 0.99 * record_nt * records
    assert taken_bytes < bytes_per_nt * length_nt


def test_the_record_table_tells_of_terminal_repeats_where_pieces_are_cut(write):
    ends = "".join(random.Random(3).choices("ACGT", k=100))
    records = [Record(0, "linear", ends), Record(1, "circular", ends + "ACGT" * 30 + ends)]
    table = read_table(write(records, 10, PIECES, 100).folder.records, "of the records")
    assert table["topology"].to_pylist() == [None, "direct_repeat"]
    assert table["chunks"].to_pylist() == [PIECES.count(len(r.dna)) for r in records]
