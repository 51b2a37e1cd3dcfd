import io
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences import text
from virnuc_dask.sequences.columns import Columns, fasta_columns, fastq_columns
from virnuc_dask.sequences.records import Record, read_records
from virnuc_dask.sequences.text import entries

READS = b"@one first\nACGTN\n+\nII@>+\n@two\tx\n\n+\n\n@three\nac-\n+\n###\n"
FASTA = b">one first\nACGT\nNac\n>two\tx\n>three\n\nac-\n"
ODD = (b"\xe9", b"\x7f", b"\0", b"\x0b", b"\x1c", b" ", b"\t", b"\r", b"\n", b"U", b"E", b"@", b">")

lines = st.sampled_from(
    (
        *(
            b"@a",
            b"@a b",
            b"@b\tc",
            b"@",
            b"@ a",
            "@λ b".encode(),
            b"@a \xff",
            b"@a\x7f",
            b"@a\x0bb",
        ),
        *(b">a", b">a b", b">", b"> a", b">a\0", b"+", b"+a", b"+a b", b"ACGT", b"acgn", b"GGUU"),
        *(b"AC", b"AC ", b"A\rC", b"MEEP", b"IIII", b"II", b">II", b"@III", b"", b" "),
    )
)
reads = st.builds(
    lambda name, dna, plus, change: (
        [b"@" + name, dna, plus and b"+" + name, b"I" * len(dna)]
        if change
        else [b"@" + name, dna, b"+", b"I" * len(dna)]
    ),
    st.sampled_from([b"a", b"b c", b"d\te"]),
    st.sampled_from([b"", b"ACGT", b"acgtnACGTN"]),
    st.sampled_from([b"x", b""]),
    st.booleans(),
)


def all_of(content: bytes, block: int, columns: bool) -> tuple[list[Record], str]:
    """The records of standard input as far as it is right, and what is said of the rest."""
    found: list[Record] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", block)
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        if not columns:
            patch.setattr(text, "fasta_columns", lambda _: None)
            patch.setattr(text, "fastq_columns", lambda _: None)
        try:
            found.extend(read_records(["-"]))
        except BadInputError as error:
            return found, str(error)
    return found, ""


def same_both_ways(content: bytes, block: int) -> None:
    assert all_of(content, block, columns=True) == all_of(content, block, columns=False)


@given(st.lists(lines, max_size=14), st.integers(1, 80), st.booleans())
def test_any_lines_are_read_as_one_by_one(some, block, has_last_end):
    same_both_ways(b"\n".join(some) + has_last_end * b"\n", block)


@given(
    st.lists(reads, max_size=8), st.lists(st.tuples(st.integers(0, 99), lines)), st.integers(1, 200)
)
def test_reads_with_a_few_odd_lines_are_read_as_one_by_one(some, changes, block):
    written = [line for read in some for line in read]
    for place, line in changes[:2]:
        written[place : place + 1] = [line]
    same_both_ways(b"\n".join(written), block)


@pytest.mark.parametrize("content", [READS, FASTA], ids=["FASTQ", "FASTA"])
@pytest.mark.parametrize("odd", ODD)
def test_one_odd_letter_anywhere_is_read_as_one_by_one(content, odd):
    for place in range(len(content)):
        for changed in (content[:place] + odd + content[place + 1 :], content[:place] + odd):
            same_both_ways(changed, 1 << 16)


def test_ordinary_records_come_together():
    names, dna = ["one", "two", "three"], ["ACGTN", "", "ac-"]
    assert list(entries(io.BytesIO(READS))) == [Columns(names, dna)]
    assert fastq_columns(READS) == Columns(names, dna)
    assert fasta_columns(FASTA) == Columns(names, ["ACGTNac", "", "ac-"])
    first, last = entries(io.BytesIO(FASTA))
    assert first == Columns(names[:2], ["ACGTNac", ""])
    assert last == (b"three", b"ac-")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_of_many_reads_only_those_at_the_end_come_alone(end):
    content = READS.replace(b"+\nI", b"+one first\nI").replace(b"\n", end) * 5000
    found = list(entries(io.BytesIO(content[: -len(end)])))
    assert sum(isinstance(some, Columns) for some in found) >= len(found) - 1
    assert sum(len(some.ids) for some in found if isinstance(some, Columns)) >= 15_000 - 3
