"""FASTA and FASTQ files, plain or compressed → records, one at a time."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import IO, Protocol, cast

import dnaio
from xopen import xopen

from virnuc_dask.errors import BadInputError

STDIN = "-"

# IUPAC nucleotides, U and alignment gaps. Whatever else stands in a sequence is a mistake, most
# often a protein: every protein longer than a few residues has E, F, I, L, P or Q.
_NUCLEOTIDES = b"ACGTURYSWKMBDHVN-"
_ACCEPTED = _NUCLEOTIDES + _NUCLEOTIDES.lower()

# Where the decompressors that xopen chooses from, by machine and Python version, keep their errors.
_DECOMPRESSORS = {
    "zlib": "error",
    "isal.isal_zlib": "error",
    "zlib_ng.zlib_ng": "error",
    "lzma": "LZMAError",
    "backports.zstd": "ZstdError",
    "compression.zstd": "ZstdError",
}


def _decompression_errors() -> Iterator[type[Exception]]:
    for module, name in _DECOMPRESSORS.items():
        with suppress(ImportError):
            yield getattr(import_module(module), name)


# What reading raises where a file, or its compression, is damaged or of another format.
DAMAGE: tuple[type[Exception], ...] = (
    dnaio.FileFormatError,
    EOFError,
    OSError,
    ValueError,
    *_decompression_errors(),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One FASTA or FASTQ entry. ``id`` is the header's first word; ``index`` counts from 0."""

    index: int
    id: str
    dna: str


class Digest(Protocol):
    """What takes in every raw byte of the input: a ``hashlib`` or ``xxhash`` object."""

    def update(self, data: bytes, /) -> None:
        """Take in ``data``."""


def read_records(inputs: Sequence[str], digest: Digest | None = None) -> Iterator[Record]:
    """The records of all inputs, in order, holding one at a time.

    Parameters
    ----------
    inputs
        Paths, or ``-`` for standard input. Format and compression (gz, bz2, xz, zst) are told
        from the content, not from the name.
    digest
        Is given the raw bytes as they are read; complete once the iterator is exhausted.

    Raises
    ------
    BadInputError
        If a file is missing, damaged, or holds anything but nucleotides.
    """
    entries = chain.from_iterable(_read_file(source, digest) for source in inputs)
    for index, (record_id, dna) in enumerate(entries):
        yield Record(index, record_id, dna)


def hash_inputs(inputs: Sequence[str], digest: Digest) -> None:
    """Give ``digest`` the raw bytes of all inputs, as `read_records` does, without parsing them."""
    for source in inputs:
        with ExitStack() as stack:
            raw = _open_raw(source, stack)
            while block := raw.read(1 << 20):
                digest.update(block)


class _Digesting(io.RawIOBase):
    """Passes on what it reads, to the digest too."""

    def __init__(self, raw: IO[bytes], digest: Digest | None) -> None:
        self._raw = raw
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._raw.read(len(buffer))
        buffer[: len(block)] = block
        if self._digest is not None:
            self._digest.update(block)
        return len(block)


def _open_raw(source: str, stack: ExitStack) -> IO[bytes]:
    if source == STDIN:
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(source).open("rb"))
    except OSError as error:
        raise BadInputError(f"{source}: cannot be read: {error.strerror}.") from error


def _read_file(source: str, digest: Digest | None) -> Iterator[tuple[str, str]]:
    name = "standard input" if source == STDIN else source
    count = 0
    with ExitStack() as stack:
        raw = io.BufferedReader(_Digesting(_open_raw(source, stack), digest), 1 << 20)
        try:
            for header, dna in _parse(raw, stack):
                count += 1
                yield _check(name, count, header, dna)
            while raw.read(1 << 20):  # what follows the last record still belongs to the digest
                pass
        except DAMAGE as error:
            after = f"after record {count}" if count else "at its start"
            raise BadInputError(
                f"{name}: not a readable FASTA or FASTQ file ({after}: {error}). "
                "Is it complete, and is it sequences?"
            ) from error


def _parse(raw: IO[bytes], stack: ExitStack) -> Iterator[tuple[str, str]]:
    unpacked = stack.enter_context(xopen(raw, "rb", threads=0))
    # Held by the stack: once collected it would close `raw`, whose rest the caller still reads.
    plain = stack.enter_context(io.BufferedReader(cast(io.RawIOBase, unpacked), 1 << 20))
    head = plain.peek(1)[:1]
    if not head:
        return
    reader = dnaio.FastqReader(plain) if head == b"@" else dnaio.FastaReader(plain)
    for entry in stack.enter_context(reader):
        yield entry.name, entry.sequence


def _check(name: str, number: int, header: str, dna: str) -> tuple[str, str]:
    words = header.split(maxsplit=1)
    if not words:
        raise BadInputError(f"{name}: record {number} has no name; give it one.")
    if wrong := dna.encode("ascii").translate(None, _ACCEPTED):
        letter = chr(wrong[0])
        raise BadInputError(
            f"{name}: record {words[0]!r} (number {number}) has {letter!r} at position "
            f"{dna.index(letter) + 1}, which is no nucleotide. Is this a protein? Give DNA."
        )
    return words[0], dna
