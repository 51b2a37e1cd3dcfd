import io
import random

import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.errors import LostRowsError
from virnuc_dask.outputs.contigs import contig_table, side_by_side
from virnuc_dask.outputs.fasta import write_records, write_regions
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.sequences.records import Record
from virnuc_dask.stages.calls import ContigScores
from virnuc_dask.tables import schemas

CHUNK_LENGTH = 50
COLUMNS = ["record_index", "record_id", "start", "end", "sequence"]


@pytest.fixture
def records() -> list[Record]:
    """Records of every length around a few chunks; two share their id, one is empty."""
    rng = random.Random(6)
    lengths = [1, 49, 50, 51, 0, 99, 100, 101, 160, 173, 80, 240, 333]
    names = ["twin" if index in (2, 3) else f"r{index}" for index in range(len(lengths))]
    return [
        Record(index, name, "".join(rng.choices("ACGTNacgtn", k=length)))
        for index, (name, length) in enumerate(zip(names, lengths, strict=True))
    ]


def partitions_of(records: list[Record], size: int) -> list[pa.Table]:
    rows = [
        [record.index, record.id, start, end, record.dna[start:end]]
        for record in records
        for start, end in chunk_spans(len(record.dna), CHUNK_LENGTH)
    ]
    schema = pa.schema([schemas.PARTITION.field(name) for name in COLUMNS])
    return [
        pa.table([list(column) for column in zip(*rows[at : at + size], strict=True)], schema)
        for at in range(0, len(rows), size)
    ]


def fasta_of(records: list[Record], size: int, wanted: set[int]) -> str:
    picked = np.array([record.index in wanted for record in records])
    stream = io.BytesIO()
    write_records(stream, partitions_of(records, size), picked)
    return stream.getvalue().decode()


def parsed(fasta: str) -> list[tuple[str, str]]:
    entries = [entry.split("\n", 1) for entry in fasta.split(">")[1:]]
    return [(name, lines.replace("\n", "")) for name, lines in entries]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_records_are_put_together_from_chunks_across_partitions(records, size):
    fasta = fasta_of(records, size, set(range(len(records))))
    with_dna = [record for record in records if record.dna]
    assert parsed(fasta) == [(record.id, record.dna) for record in with_dna]


def test_only_the_wanted_records_are_written_in_lines_of_eighty_letters(records):
    fasta = fasta_of(records, 3, {3, 12})
    assert parsed(fasta) == [("twin", records[3].dna), ("r12", records[12].dna)]
    sizes = [len(line) for line in fasta.splitlines() if not line.startswith(">")]
    assert sizes == [51, 80, 80, 80, 80, 13]
    assert fasta.endswith("\n")
    assert fasta_of(records, 3, set()) == ""


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_regions_are_cut_out_of_their_records_across_chunks_and_partitions(records, size):
    places = [(1, 3, 40), (2, 0, 50), (11, 0, 49), (11, 49, 120), (11, 130, 240), (12, 300, 333)]
    columns = zip(*((index, records[index].id, *place) for index, *place in places), strict=True)
    names = ["record_index", "record_id", "start", "end"]
    table = pa.table(dict(zip(names, columns, strict=True)))
    wanted = np.isin(np.arange(len(records)), [1, 2, 11, 12])
    stream = io.BytesIO()
    write_regions(stream, partitions_of(records, size), wanted, [table.slice(0, 4), table.slice(4)])
    assert parsed(stream.getvalue().decode()) == [
        (f"{records[index].id}|provirus_{start + 1}_{end}", records[index].dna[start:end])
        for index, start, end in places
    ]


def test_a_record_that_an_older_version_planned_has_no_gc():
    records = pa.table({"record_id": ["a"], "length_nt": [9], "chunks": [1]})
    (row,) = contig_table(records, next(ContigScores(1).calls())).to_pylist()
    assert (row["gc"], row["call"]) == (None, "unscored")


@pytest.mark.parametrize(("records", "calls"), [(1, 2), (2, 1)])
def test_another_number_of_records_than_of_calls_is_an_error(records, calls):
    table = schemas.filled(schemas.RECORDS, {}, records)
    with pytest.raises(LostRowsError, match=f"{calls} records were read, {records} came out"):
        list(side_by_side([table], ContigScores(calls).calls()))
