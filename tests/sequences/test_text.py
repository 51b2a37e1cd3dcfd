import io
import sys
from types import SimpleNamespace

import dnaio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences import text
from virnuc_dask.sequences.records import Record, read_records
from virnuc_dask.sequences.text import Columns, FormatError, entries

headers = st.binary(max_size=12).map(lambda h: b"id" + h.translate(None, b"\r\n"))
letters = st.text("ACGTN", max_size=70).map(str.encode)
records = st.lists(st.tuples(headers, letters), max_size=6)
line_ends = st.sampled_from([b"\n", b"\r\n"])
blocks = st.integers(1, 80)


def read(content: bytes, block: int) -> list[tuple[bytes, bytes]]:
    """Every entry by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", block)
        patch.setattr(text, "fasta_columns", lambda _: None)
        patch.setattr(text, "fastq_columns", lambda _: None)
        return list(entries(io.BytesIO(content)))


def lines_of(dna: bytes, width: int) -> list[bytes]:
    return [dna[at : at + width] for at in range(0, len(dna), width)]


@given(records, st.integers(1, 80), line_ends, blocks, st.booleans(), st.integers(0, 3))
def test_fasta_comes_back_whatever_its_lines_and_blocks(
    written, width, end, block, has_last_end, blanks
):
    lines = [line for h, dna in written for line in (b">" + h, *lines_of(dna, width))]
    content = blanks * end + end.join(lines) + has_last_end * (blanks + 1) * end
    assert read(content, block) == written


@given(records, line_ends, blocks, st.booleans(), st.integers(0, 7), st.booleans())
def test_fastq_comes_back_whatever_its_blocks(written, end, block, has_last_end, blanks, named):
    lines = [
        line
        for h, dna in written
        for line in (b"@" + h, dna, b"+" + named * h, bytes(64 + n % 30 for n in range(len(dna))))
    ]
    content = blanks * end + end.join(lines) + has_last_end * (blanks + 1) * end
    assert read(content, block) == written


@given(st.binary(max_size=60).map(lambda b: b">" + b.translate(None, b"\r\0 \t\x0b\x0c")), blocks)
def test_fasta_is_read_as_another_reader_reads_it(content, block):
    # The other reader skips lines that begin with #; here they are sequence, and refused as such.
    content = bytes(c & 127 for c in content).translate(None, b"#\r \t\x0b\x0c\x1c\x1d\x1e\x1f")
    others = [
        (r.name.encode(), r.sequence.encode()) for r in dnaio.FastaReader(io.BytesIO(content))
    ]
    assert read(content, block) == others


@given(st.lists(st.sampled_from([b"@a", b"@b", b"AC", b"+", b"+a", b"II", b"III", b""])), blocks)
def test_fastq_is_read_as_another_reader_reads_it(lines, block):
    content = b"\n".join([b"@a", *lines])
    try:
        ours = read(content, block)
    except FormatError:
        ours = None
    # The other reader takes no blank lines at the end, but those of an empty read.
    whole = content.rstrip(b"\n")
    assert ours in (read_by_another(whole), read_by_another(whole + b"\n\n"))


def read_by_another(content: bytes) -> list[tuple[bytes, bytes]] | None:
    try:
        with dnaio.FastqReader(io.BytesIO(content)) as reader:
            return [(r.name.encode(), r.sequence.encode()) for r in reader]
    except dnaio.FileFormatError:
        return None


@pytest.mark.parametrize(
    "content",
    [
        b">a\n" + b"A" * 11_000,
        b">a\n" + b"A\n" * 11_000 + b">b\nA\n",
        b">" + b"a" * 11_000 + b"\nAC\n",
        b"@a\n" + b"A" * 11_000 + b"\n+\nI\n",
        b"@" + b"a" * 11_000,
    ],
    ids=["one line", "many lines", "FASTA header", "read", "FASTQ header"],
)
def test_an_endless_record_is_refused_before_it_fills_the_memory(monkeypatch, content):
    monkeypatch.setattr(text, "LONGEST_NT", 10_000)
    with pytest.raises(FormatError, match="longer than 10,000 nt"):
        read(content, 100)


READS = b"@one first\nACGTN\n+\nII@>+\n@two\tx\n\n+\n\n@three\nac-\n+\n###\n"
FASTA = b">one first\nACGT\nNac\n>two\tx\n>three\n\nac-\n"
ODD = (b"\xe9", b"\x7f", b"\0", b"\x0b", b"\x1c", b" ", b"\t", b"\r", b"\n", b"U", b"E", b"@", b">")

lines = st.sampled_from(
    (
        *(b"@a", b"@a b", b"@b\tc", b"@", b"@ a", "@λ b".encode(), b"@a \xff", b"@a\x7f"),
        *(b">a", b">a b", b">", b"> a", b">a\0", b"+", b"+a", b"+a b", b"ACGT", b"acgn", b"GGUU"),
        *(b"AC", b"AC ", b"A\rC", b"MEEP", b"IIII", b"II", b">II", b"@III", b"", b" "),
    )
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


@pytest.mark.parametrize("content", [READS, FASTA], ids=["FASTQ", "FASTA"])
@pytest.mark.parametrize("odd", ODD)
def test_one_odd_letter_anywhere_is_read_as_one_by_one(content, odd):
    for place in range(len(content)):
        for changed in (content[:place] + odd + content[place + 1 :], content[:place] + odd):
            same_both_ways(changed, 1 << 16)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_of_many_reads_only_those_at_the_end_come_alone(end):
    content = READS.replace(b"+\nI", b"+one first\nI").replace(b"\n", end) * 5000
    found = list(entries(io.BytesIO(content[: -len(end)])))
    assert sum(isinstance(some, Columns) for some in found) >= len(found) - 1
    assert sum(len(some.ids) for some in found if isinstance(some, Columns)) >= 15_000 - 3
