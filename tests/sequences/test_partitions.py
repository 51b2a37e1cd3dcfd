import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from virnuc_dask.sequences import partitions
from virnuc_dask.sequences.chunks import Pieces, chunk_spans
from virnuc_dask.sequences.partitions import count_records, write_partitions
from virnuc_dask.sequences.records import Record
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import read_table
from virnuc_dask.tables.plan import Counts, PlannedPartition

CHUNK_LENGTH, PARTITION_CHUNKS = 30, 4
DNA = ("ACGTTGCAac" * 20)[:173]


class Written(NamedTuple):
    folder: RunFolder
    counts: Counts
    partitions: tuple[PlannedPartition, ...]


Write = Callable[[Sequence[Record]], Written]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes partitions into a new folder each time."""

    def to_folder(records: Sequence[Record]) -> Written:
        folder = RunFolder(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        folder.path.mkdir()
        folder.prepare(resume=False, force=False)
        counts, partitions = write_partitions(
            iter(records), folder, CHUNK_LENGTH, PARTITION_CHUNKS, lambda: "of the records"
        )
        return Written(folder, counts, partitions)

    return to_folder


@pytest.fixture
def records() -> list[Record]:
    lengths = [173, 0, 30, 12, 61, 12]
    names = ["long", "empty", "exact", "short", "twin", "twin"]
    return [
        Record(index, name, DNA[:length])
        for index, (name, length) in enumerate(zip(names, lengths, strict=True))
    ]


def rows_of(written: Written, part: PlannedPartition) -> list[dict]:
    return read_table(written.folder.partition(part.index), part.content).to_pylist()


def spans_of(record):
    return list(chunk_spans(len(record.dna), CHUNK_LENGTH))


def test_records_chunks_bases_duplicates_and_short_records_are_counted(write, records):
    chunks = sum(len(spans_of(record)) for record in records)
    expected = Counts(records=6, chunks=chunks, length_nt=288, duplicate_ids=1, shorter_records=3)
    assert write(records).counts == expected


def test_counting_alone_gives_the_same_counts(write, records):
    assert count_records(iter(records), CHUNK_LENGTH) == write(records).counts


def test_every_partition_but_the_last_is_full(write, records):
    written = write(records)
    sizes = [part.chunks for part in written.partitions]
    assert sizes[:-1] == [PARTITION_CHUNKS] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= PARTITION_CHUNKS
    assert sum(sizes) == written.counts.chunks
    assert [part.index for part in written.partitions] == list(range(len(sizes)))


def test_partitions_hold_every_chunk_in_order(write, records):
    written = write(records)
    rows = [row for part in written.partitions for row in rows_of(written, part)]
    assert rows == [
        {
            "chunk_id": f"{record.id}_chunk_{number}",
            "record_id": record.id,
            "record_index": record.index,
            "chunk_number": number,
            "start": start,
            "end": end,
            "sequence": record.dna[start:end],
        }
        for record in records
        for number, (start, end) in enumerate(spans_of(record), start=1)
    ]


def test_the_record_table_keeps_every_record_an_empty_one_too(write, records):
    written = write(records)
    table = read_table(written.folder.records, "of the records")
    assert table.to_pylist() == [
        {
            "record_index": record.index,
            "record_id": record.id,
            "length_nt": len(record.dna),
            "chunks": len(spans_of(record)),
        }
        for record in records
    ]


@pytest.fixture
def write_pieces(tmp_path: Path) -> Callable[..., list[list[dict]]]:
    """Writes pieces and gives the rows of each partition; counts are kept true on the way."""

    def to_folder(records: Sequence[Record], pieces: Pieces, rows: int, nt: int) -> list[list]:
        folder = RunFolder(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        folder.path.mkdir()
        folder.prepare(resume=False, force=False)
        counts, parts = write_partitions(
            iter(records), folder, CHUNK_LENGTH, rows, lambda: "of the records", pieces, nt
        )
        assert counts == count_records(iter(records), CHUNK_LENGTH, pieces)
        written = Written(folder, counts, parts)
        tables = [rows_of(written, part) for part in parts]
        assert [len(table) for table in tables] == [part.chunks for part in parts]
        assert counts.chunks == sum(map(len, tables))
        assert counts.shorter_records == sum(len(r.dna) < pieces.shortest_nt for r in records)
        return tables

    return to_folder


PIECES = Pieces(40, 10, shortest_nt=20)


def test_pieces_are_rows_with_the_names_of_chunks(write_pieces, records):
    rows = [row for table in write_pieces(records, PIECES, 1000, 10_000) for row in table]
    long = [row for row in rows if row["record_id"] == "long"]
    spans = [(0, 40), (30, 70), (60, 100), (90, 130), (120, 160), (150, 173)]
    assert [(row["start"], row["end"]) for row in long] == spans
    assert [row["chunk_id"] for row in long] == [f"long_chunk_{n + 1}" for n in range(6)]
    assert all(row["sequence"] == DNA[row["start"] : row["end"]] for row in rows)
    assert [row["record_index"] for row in rows] == [0] * 6 + [2, 3, 4, 4, 5]


@pytest.mark.parametrize("nt", [1, 39, 41, 100, 137, 10_000])
@pytest.mark.parametrize("rows", [1, 2, 4, 1000])
def test_a_partition_of_pieces_is_full_by_its_nucleotides_or_its_rows(
    write_pieces, records, rows, nt
):
    whole = [row for table in write_pieces(records, PIECES, 1000, 10_000) for row in table]
    tables = write_pieces(records, PIECES, rows, nt)
    assert [row for table in tables for row in table] == whole
    for number, table in enumerate(tables):
        sizes = [len(row["sequence"]) for row in table]
        assert len(table) <= rows
        assert sum(sizes[:-1]) < nt, "full before its last row"
        if number < len(tables) - 1:
            assert len(table) == rows or sum(sizes) >= nt


@pytest.mark.parametrize("records", [[], [Record(0, "empty", "")]])
def test_an_input_without_chunks_has_no_partition_but_a_record_table(write, records):
    written = write(records)
    assert written.partitions == ()
    assert written.counts.chunks == 0
    assert len(read_table(written.folder.records, "of the records")) == len(records)


def test_the_record_tables_fingerprint_is_asked_once_all_records_are_read(tmp_path, records):
    folder, seen = RunFolder(tmp_path), []
    folder.prepare(resume=False, force=False)
    stream = (seen.append(record.id) or record for record in records)
    write_partitions(stream, folder, CHUNK_LENGTH, PARTITION_CHUNKS, lambda: ",".join(seen))
    assert len(read_table(folder.records, "long,empty,exact,short,twin,twin")) == 6


def test_the_same_content_has_the_same_fingerprints_and_bytes(write, records):
    one, two = write(records), write(records)
    assert one.partitions == two.partitions
    for part in one.partitions:
        paths = (run.folder.partition(part.index) for run in (one, two))
        assert len({path.read_bytes() for path in paths}) == 1


def test_one_changed_letter_changes_the_fingerprint_of_its_partition_only(write, records):
    last = records[4].dna[-1]
    other = records[4].dna[:-1] + ("A" if last != "A" else "C")
    old, new = write(records), write([*records[:4], Record(4, "twin", other), *records[5:]])
    pairs = zip(old.partitions, new.partitions, strict=True)
    differing = {before.index for before, after in pairs if before.content != after.content}
    holding = {
        part.index
        for part in old.partitions
        if any((row["record_index"], row["end"]) == (4, len(other)) for row in rows_of(old, part))
    }
    assert differing == holding
    assert len(holding) == 1


@pytest.mark.parametrize("other", [Record(2, "renamed", DNA[:30]), Record(9, "exact", DNA[:30])])
def test_ids_and_record_numbers_belong_to_the_fingerprint(write, records, other):
    contents = [
        {part.content for part in write(rows).partitions}
        for rows in (records, [*records[:2], other, *records[3:]])
    ]
    assert contents[0] != contents[1]


def test_records_that_cannot_be_read_leave_no_record_table(tmp_path, records):
    def broken():
        yield from records
        raise OSError("gone")

    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    with pytest.raises(OSError, match="gone"):
        write_partitions(broken(), folder, CHUNK_LENGTH, PARTITION_CHUNKS, lambda: "x")
    assert not folder.records.exists()


def test_a_partition_that_cannot_be_written_ends_the_planning(tmp_path, records):
    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    folder.partition(1).mkdir()  # in the way of the file
    with pytest.raises(OSError, match="part-00001"):
        write_partitions(iter(records), folder, CHUNK_LENGTH, PARTITION_CHUNKS, lambda: "x")
    assert not folder.records.exists()


class SlowestThread:
    """In the place of the writing thread: nothing is written before somebody waits for it."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> "SlowestThread":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., object], *arguments: object) -> SimpleNamespace:
        return SimpleNamespace(result=partial(call, *arguments))


def test_no_more_is_read_ahead_than_a_few_partitions(tmp_path, monkeypatch):
    most, read, written = 0, 0, 0

    def stream():
        nonlocal most, read
        for read in range(1, 200):
            most = max(most, read - PARTITION_CHUNKS * written)
            yield Record(read - 1, f"r{read}", DNA[:CHUNK_LENGTH])

    def write(*_: object) -> None:
        nonlocal written
        written += 1

    monkeypatch.setattr(partitions, "write_table", write)
    monkeypatch.setattr(partitions, "ThreadPoolExecutor", SlowestThread)
    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    write_partitions(stream(), folder, CHUNK_LENGTH, PARTITION_CHUNKS, lambda: "x")
    assert written == 50
    assert most == 5 * PARTITION_CHUNKS, "four wait to be written, one is read"


MEASURE = """
import sys
from pathlib import Path
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
counts, _ = write_partitions(read_records([sys.argv[2]]), folder, 500, 1000, lambda: "x")
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


def test_the_record_table_tells_of_terminal_repeats_where_pieces_are_cut(tmp_path):
    ends = "".join(random.Random(3).choices("ACGT", k=100))
    records = [Record(0, "linear", ends), Record(1, "circular", ends + "ACGT" * 30 + ends)]
    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    write_partitions(records, folder, 500, 10, lambda: "x", Pieces(60, 20), 100)
    table = read_table(folder.records, "x")
    assert table["topology"].to_pylist() == [None, "direct_repeat"]
    assert table["chunks"].to_pylist() == [Pieces(60, 20).count(len(r.dna)) for r in records]
