"""Which reads are mates, by their files, their names and their comments."""

import hashlib
from pathlib import Path

import pytest
import xxhash

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.mates import neighbours, paired_files
from virnuc_dask.sequences.records import Record, hash_inputs, read_records
from virnuc_dask.tables.inputs import Source


def reads_of(*headers: str) -> list[Record]:
    split = [header.partition(" ")[::2] for header in headers]
    return [Record(n, name, f"{n}", description=text) for n, (name, text) in enumerate(split)]


def found(headers: tuple[str, ...], paired: bool | None) -> list[tuple[str, int]]:
    return [(read.dna, mate) for read, mate in neighbours(iter(reads_of(*headers)), paired)]


@pytest.mark.parametrize(
    ("headers", "paired", "expected"),
    [
        (("a/1", "a/2", "b/1", "b/2"), True, [("0", 1), ("1", 2), ("2", 1), ("3", 2)]),
        (("a 1:N:0:A", "a 2:N:0:A"), True, [("0", 1), ("1", 2)]),
        (("a 2:Y:0", "a 1:Y:0"), True, [("1", 1), ("0", 2)]),
        (("a", "a", "a"), True, [("0", 1), ("1", 2), ("2", -1)]),
        (("a", "a"), None, [("0", 0), ("1", 0)]),
        (("a/1", "b/1", "b/2"), None, [("0", -1), ("1", 1), ("2", 2)]),
        (("a/1", "a/1", "a/2"), True, [("0", -1), ("1", 1), ("2", 2)]),
        (("a/1", "b/2"), True, [("0", -1), ("1", -1)]),
        (("a 1:2:3", "a 2:2:3"), True, [("0", 1), ("1", 2)]),
        (("a/1", "a"), True, [("0", -1), ("1", -1)]),
        ((), True, []),
    ],
)
def test_neighbours_are_mates_by_name_and_mark(headers, paired, expected):
    assert found(headers, paired) == expected


def test_files_of_mates_go_side_by_side_and_what_is_left_is_alone():
    ones, twos = reads_of("a/1", "b 1:N:0", "r.7.1", "d"), reads_of("a/2", "b 2:N:0", "r.7.2")
    pairs = paired_files(iter(ones), iter(twos), ("x", "y"))
    assert [(read.id, mate) for read, mate in pairs] == [
        *(("a/1", 1), ("a/2", 2), ("b", 1), ("b", 2), ("r.7.1", 1), ("r.7.2", 2), ("d", -1)),
    ]
    with pytest.raises(BadInputError, match="x and y: the reads number 2 are 'b' and 'c'"):
        list(paired_files(iter(reads_of("a", "b")), iter(reads_of("a", "c")), ("x", "y")))


@pytest.fixture
def files(tmp_path) -> Source:
    names = str(tmp_path / "s_R1.fa"), str(tmp_path / "s_R2.fa")
    Path(names[0]).write_text(">a 1:N:0\nACGT\n>b 1:N:0\nACGU\n>c\nAC\n")
    Path(names[1]).write_text(">a 2:N:0\nGGGG\n>b 2:N:0\nTTTT\n")
    return Source(names, "s", paired=True)


def test_records_of_two_files_alternate_with_their_sample_and_mate(files):
    records = list(read_records([files, files.paths[0]]))
    assert [record.index for record in records] == list(range(8))
    assert [(r.id, r.dna, r.origin.mate) for r in records[:5]] == [
        *(("a", "ACGT", 1), ("a", "GGGG", 2), ("b", "ACGT", 1), ("b", "TTTT", 2), ("c", "AC", -1)),
    ]
    assert [r.origin.was_rna for r in records[:5]] == [False, False, True, False, False]
    assert {r.origin.sample for r in records[:5]} == {"s"}
    assert {(r.origin.sample, r.origin.mate) for r in records[5:]} == {("s_R1", 0)}
    assert records[0].description == "1:N:0"


def test_the_digest_of_two_files_is_known_without_reading_records(files):
    reading, hashing, expected = (hashlib.sha256() for _ in range(3))
    list(read_records([files], reading))
    hash_inputs([files], hashing)
    for path in files.paths:
        expected.update(xxhash.xxh3_128_digest(Path(path).read_bytes()))
    assert reading.digest() == hashing.digest() == expected.digest()
