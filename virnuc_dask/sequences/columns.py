"""A block of ordinary FASTA or FASTQ text → the ids and the DNA of all its records at once.

Ordinary is what a genome centre writes: records that are whole and named in ASCII, and nucleotides
without U. Whatever else a block holds, right or wrong, is left to `text`, which reads record by
record and says what is wrong.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple

from dnaio import FastqReader, FileFormatError

# IUPAC nucleotides and alignment gaps. Whatever else but U stands in a sequence is a mistake, most
# often a protein: every protein longer than a few residues has E, F, I, L, P or Q.
_NUCLEOTIDES = b"ACGTRYSWKMBDHVN-"
DNA = _NUCLEOTIDES + _NUCLEOTIDES.lower()
_OF_NAMES = bytes(range(ord("!"), ord("~") + 1))


class Columns(NamedTuple):
    """Records side by side."""

    ids: list[str]
    dna: list[str]


def fastq_columns(text: bytes) -> Columns | None:
    r"""The reads of ``text``, which ends where a line ends; None if it is not ordinary."""
    if b"\0" in text:  # dnaio takes it for the end of a name
        return None
    try:
        reads = list(FastqReader(io.BytesIO(text), buffer_size=len(text) + 1))
    except FileFormatError:
        return None
    return _if_ordinary([read.id for read in reads], [read.sequence for read in reads])


def fasta_columns(text: bytes) -> Columns | None:
    r"""The records of ``text``, from the first one's > to the end of a line; or None, as above."""
    if not text.isascii():
        return None
    records = [record.partition("\n") for record in text[1:].decode("ascii").split("\n>")]
    return _if_ordinary(
        [header.partition(" ")[0].partition("\t")[0] for header, _, _ in records],
        [lines.replace("\n", "") for _, _, lines in records],
    )


def _if_ordinary(ids: list[str], dna: list[str]) -> Columns | None:
    ordinary = all(ids) and _all_in(_OF_NAMES, ids) and _all_in(DNA, dna)
    return Columns(ids, dna) if ordinary else None


def _all_in(letters: bytes, texts: Iterable[str]) -> bool:
    return not "".join(texts).encode("ascii").translate(None, letters)
