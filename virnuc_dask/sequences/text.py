"""FASTA and FASTQ text → entries, a block of whole lines at a time.

The records of an ordinary block come together, as columns; those of any other one by one. Ordinary
is what a genome centre writes: records that are whole and named in ASCII, nucleotides without U.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, NamedTuple

import numpy as np
from dnaio import FastqReader, FileFormatError

from virnuc_dask.tables.inputs import one_line

# Stays in the processor's cache: with a mebibyte, reading takes twice as long.
_BLOCK = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a file with it
_NOT_SEQUENCES = "Is it complete, and is it sequences?"
_SHOWN = 20  # bytes of a file that is no FASTA, in the message

# What BAM allows too. Without an end, a small compressed file could unfold to fill the memory.
LONGEST_NT = 2**31 - 1

# IUPAC nucleotides and alignment gaps. Whatever else but U is in a sequence is a mistake, most
# often a protein: every protein longer than a few residues has E, F, I, L, P or Q.
_NUCLEOTIDES = b"ACGTRYSWKMBDHVN-"
DNA = _NUCLEOTIDES + _NUCLEOTIDES.lower()
_OF_NAMES = bytes(range(ord("!"), ord("~") + 1))


class Columns(NamedTuple):
    """Records side by side, found right."""

    ids: list[str]
    dna: list[str]
    descriptions: list[str]  # what follows the ids, by `one_line`; empty if nothing does anywhere


Entry = tuple[bytes, bytes]  # header without its mark, letters without line ends


class FormatError(ValueError):
    """The text is neither FASTA nor FASTQ; the message says why, and what to do."""


def entries(stream: IO[bytes]) -> Iterator[Columns | Entry]:
    r"""The records of a FASTA or FASTQ file, in order; the letters of an `Entry` may be anything.

    Line ends may be ``\n`` or ``\r\n``; blank lines before the first entry and after the last
    one, blanks at the ends of FASTA lines and a byte order mark are passed over. `FormatError` if
    it is neither, or an entry is not whole.
    """
    blocks = _blocks(stream)
    for place, first in enumerate(blocks):
        text = (first if place else first.removeprefix(_BYTE_ORDER_MARK)).lstrip()
        if not text:
            continue
        if text[:1] not in (b">", b"@"):
            is_file = text.startswith((b"BAM\1", b"CRAM"))
            raise FormatError(
                f"it has {text[:_SHOWN]!r}, neither > (FASTA) nor @ (FASTQ). "
                + ("BAM and CRAM cannot be piped: give a file." if is_file else _NOT_SEQUENCES)
            )
        parse = _fasta if text[:1] == b">" else _fastq
        yield from parse(chain([text], blocks))


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    r"""The stream in pieces that end where a line ends, all line ends ``\n``."""
    pieces: list[bytes] = []
    held = 0
    while block := stream.read(_BLOCK):
        end = block.rfind(b"\n") + 1
        pieces.append(block[:end] if end else block)
        held += len(pieces[-1])
        _refuse_endless(held)
        if end:
            whole = b"".join(pieces)
            pieces, held = [block[end:]], len(block) - end
            yield _with_plain_ends(whole)
    if rest := b"".join(pieces).removesuffix(b"\r"):
        yield _with_plain_ends(rest)


def _with_plain_ends(lines: bytes) -> bytes:
    if b"\r" not in lines:
        return lines
    plain = lines.replace(b"\r\n", b"\n")
    if b"\r" in plain:
        raise FormatError(
            "a line further on has a carriage return in it. Save it as plain text anew."
        )
    return plain


def _fasta(blocks: Iterable[bytes]) -> Iterator[Columns | Entry]:
    header, pieces, held = b"", [b""], 0  # of the record that has no end yet
    is_first = True
    for block in blocks:
        first = 0 if block[:1] == b">" else block.find(b"\n>") + 1 or len(block)
        pieces.append(_letters(block[:first]))
        held += len(pieces[-1])
        _refuse_endless(held)
        if first == len(block):
            continue
        if not is_first:
            yield header, b"".join(pieces)
        is_first = False
        last = max(first, block.rfind(b"\n>") + 1)
        yield from _whole_fasta(block[first:last])
        header, letters = _fasta_entry(block[last + 1 :])
        pieces, held = [letters], len(letters)
    yield header, b"".join(pieces)


def _whole_fasta(block: bytes) -> Iterator[Columns | Entry]:
    if not block:
        return
    if columns := fasta_columns(block):
        yield columns
    else:
        yield from map(_fasta_entry, block[1:].split(b"\n>"))


def fasta_columns(text: bytes) -> Columns | None:
    """The records of ``text``, from the first one's > to the end of a line; None if it is odd."""
    if not text.isascii():
        return None
    lines = text[1:].decode("ascii")
    records = [record.partition("\n") for record in lines.split("\n>")]
    headers = [header for header, _, _ in records]
    dna = [letters.replace("\n", "") for _, _, letters in records]
    return if_ordinary(headers, dna)


def if_ordinary(headers: list[str], dna: list[str]) -> Columns | None:
    """Records with these headers, if all are ordinary."""
    ids, descriptions = headers, list[str]()
    if not _all_in(_OF_NAMES, headers):  # a blank is not, either
        words = [header.split(None, 1) or [""] for header in headers]
        ids = [first for first, *_ in words]
        descriptions = [one_line("".join(rest)) for _, *rest in words]
        if not _all_in(_OF_NAMES, ids):
            return None
    return Columns(ids, dna, descriptions) if all(ids) and _all_in(DNA, dna) else None


def _all_in(letters: bytes, texts: Iterable[str]) -> bool:
    return not "".join(texts).encode("ascii").translate(None, letters)


def _fasta_entry(text: bytes) -> Entry:
    """The entry of ``text``, which begins after the mark."""
    header, _, lines = text.partition(b"\n")
    return header, _letters(lines)


def _letters(lines: bytes) -> bytes:
    if lines.isalpha():  # one line
        return lines
    if b" " in lines or b"\t" in lines:
        lines = b"\n".join(map(bytes.strip, lines.split(b"\n")))
    return lines.translate(None, b"\n")


def _fastq(blocks: Iterable[bytes]) -> Iterator[Columns | Entry]:
    rest = b""
    for block in blocks:
        whole, rest = _whole_reads(rest + block)
        if columns := fastq_columns(whole):
            yield columns
            continue
        lines = whole.split(b"\n")
        for at in range(0, len(lines) - 1, 4):
            if not _is_read(*lines[at : at + 4]):
                _refuse_read(lines[at:], chain([rest], blocks))
                return
            yield lines[at][1:], lines[at + 1]
    lines = rest.removesuffix(b"\n").split(b"\n")
    # The last read can be an empty one, whose last line is lost where the file has no line end.
    read = [*lines, b""] if len(lines) == 3 else lines
    if len(read) == 4 and _is_read(*read):
        yield read[0][1:], read[1]
    else:
        _refuse_read(lines, ())


def fastq_columns(text: bytes) -> Columns | None:
    """The reads of ``text``, which ends where a line ends; None if it is odd."""
    if b"\0" in text:  # dnaio takes it for the end of a name
        return None
    try:
        reads = list(FastqReader(io.BytesIO(text), buffer_size=len(text) + 1))
    except FileFormatError:
        return None
    headers, dna = [read.name for read in reads], [read.sequence for read in reads]
    return if_ordinary(headers, dna)


def _whole_reads(text: bytes) -> tuple[bytes, bytes]:
    """The reads of four whole lines that ``text`` has, and the rest."""
    end = len(text)
    lines = np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n"))  # faster than a count
    for _ in range(lines % 4 + 1):
        end = text.rfind(b"\n", 0, end)
    return text[: end + 1], text[end + 1 :]


def _is_read(header: bytes, letters: bytes, plus: bytes, qualities: bytes) -> bool:
    is_named = plus in (b"+", b"+" + header[1:])
    return header[:1] == b"@" and is_named and len(letters) == len(qualities)


def _refuse_read(lines: list[bytes], blocks: Iterable[bytes]) -> None:
    """Say what is wrong with the read that begins ``lines``; nothing is if all is blank."""
    if not any(text.strip() for text in chain(lines, blocks)):
        return
    header, letters, plus, qualities = (*lines[:4], *[b""] * (4 - len(lines)))[:4]
    if header[:1] != b"@":
        fault = f"a line begins with {header[:_SHOWN]!r}, not with @. Is the file damaged?"
    elif len(lines) < 4:
        fault = "the next read has fewer than four lines. Is the file cut short?"
    elif plus[:1] != b"+":
        fault = (
            f"the next read's third line begins with {plus[:_SHOWN]!r}, not with +. "
            "Give every read in four lines."
        )
    elif len(letters) != len(qualities):
        fault = (
            f"the next read has {len(letters)} bases but {len(qualities)} qualities. "
            "Is the file cut short?"
        )
    else:
        fault = f"the next read has two names, {header[1:]!r} and {plus[1:]!r}; is it damaged?"
    raise FormatError(fault)


def _refuse_endless(held: int) -> None:
    if held > LONGEST_NT:
        raise FormatError(f"the next record is longer than {LONGEST_NT:,} nt. Split it.")
