"""FASTA and FASTQ files, plain or compressed → records, one at a time."""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from pkgutil import resolve_name
from typing import IO, Protocol, cast

from xopen import xopen

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.text import DNA, Columns, Entry, FormatError, entries
from virnuc_dask.tables.paths import STDIN

_BUFFER = 1 << 16  # as `text._BLOCK`

_RNA_TO_DNA = bytes.maketrans(b"Uu", b"Tt")

# Where the decompressors that xopen chooses from, by machine and Python version, keep their errors.
_ERRORS_OF_DECOMPRESSORS = (
    *("zlib:error", "isal.isal_zlib:error", "zlib_ng.zlib_ng:error", "lzma:LZMAError"),
    *("backports.zstd:ZstdError", "compression.zstd:ZstdError"),
)


def _decompression_errors() -> Iterator[type[Exception]]:
    for name in _ERRORS_OF_DECOMPRESSORS:
        with suppress(ImportError):
            yield resolve_name(name)


# What reading raises where a file, or its compression, is damaged or of another format.
DAMAGE: tuple[type[Exception], ...] = (EOFError, OSError, ValueError, *_decompression_errors())


@dataclass(slots=True)  # a frozen one takes five times as long to make
class Record:
    """One FASTA or FASTQ entry. ``id`` is the header's first word; ``index`` counts from 0."""

    index: int
    id: str
    dna: str
    was_rna: bool = False  # had U, which is T in ``dna``


class Digest(Protocol):
    """A ``hashlib`` or ``xxhash`` object."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take in ``data``."""


def read_records(inputs: Sequence[str], digest: Digest | None = None) -> Iterator[Record]:
    """The records of all inputs, in order, holding one at a time. U is read as T.

    Inputs are paths, or `STDIN`. ``digest`` takes in their raw bytes as they are read; it is
    complete once the iterator is exhausted. `BadInputError` if a file is missing, damaged, or
    holds anything but nucleotides.
    """
    read = 0
    for columns, was_rna in chain.from_iterable(_read_file(source, digest) for source in inputs):
        index = range(read, read + len(columns.ids))
        yield from map(Record, index, columns.ids, columns.dna, repeat(was_rna))
        read = index.stop


def hash_inputs(inputs: Sequence[str], digest: Digest) -> None:
    """Give ``digest`` what `read_records` does, without parsing it."""
    for source in inputs:
        with ExitStack() as stack:
            raw = _open_raw(source, stack)
            while block := raw.read(_BUFFER):
                digest.update(block)


class _Digesting(io.RawIOBase):
    """Passes on what it reads, to the digest too."""

    def __init__(self, raw: io.BufferedIOBase, digest: Digest | None) -> None:
        self._raw = raw
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)
        if self._digest is not None:
            self._digest.update(buffer[:count])
        return count


def _open_raw(source: str, stack: ExitStack) -> io.BufferedIOBase:
    if source == STDIN:
        return cast(io.BufferedIOBase, sys.stdin.buffer)
    try:
        return stack.enter_context(Path(source).open("rb"))
    except OSError as error:
        raise BadInputError(f"{source}: cannot be read: {error.strerror}.") from error


def _read_file(source: str, digest: Digest | None) -> Iterator[tuple[Columns, bool]]:
    """Columns of neighbouring records, and whether they were RNA."""
    name = "standard input" if source == STDIN else source
    count = 0
    with ExitStack() as stack:
        raw = io.BufferedReader(_Digesting(_open_raw(source, stack), digest), _BUFFER)
        try:
            for found in _entries(raw, stack):
                if isinstance(found, Columns):
                    count += len(found.ids)
                    yield found, False
                else:
                    count += 1
                    yield _check(name, count, found)
            while raw.read(_BUFFER):  # what follows the last record still belongs to the digest
                pass
        except DAMAGE as error:
            after = f"after record {count}" if count else "at its start"
            fault = str(error)
            if not isinstance(error, FormatError):
                fault += ". Is it complete? Get it again."
            raise BadInputError(
                f"{name}: not a readable FASTA or FASTQ file; {after}, {fault}"
            ) from error


def _entries(raw: IO[bytes], stack: ExitStack) -> Iterator[Columns | Entry]:
    unpacked = stack.enter_context(xopen(raw, "rb", threads=0))
    # Held by the stack: once collected it would close `raw`, whose rest the caller still reads.
    plain = stack.enter_context(io.BufferedReader(cast(io.RawIOBase, unpacked), _BUFFER))
    return entries(plain)


def _check(name: str, number: int, entry: Entry) -> tuple[Columns, bool]:
    """The record of an entry, and whether it was RNA; `BadInputError` names what is wrong."""
    header, letters = entry
    try:
        words = header.decode().split(None, 1)
    except UnicodeDecodeError:  # what follows the id is not read: it may be in any encoding
        words = header.decode("utf-8", "surrogateescape").split(None, 1)
    if not words:
        raise BadInputError(f"{name}: record {number} has no name; give it one.")
    record_id = words[0]
    if not (record_id.isascii() and record_id.isprintable()):
        _check_id(record_id, f"{name}: record {number}")
    other = letters.translate(None, DNA)
    if not other:
        return Columns([record_id], [letters.decode()]), False
    if wrong := other.translate(None, b"Uu"):
        letter = wrong[:1]
        raise BadInputError(
            f"{name}: record {record_id!r} (number {number}) has {_shown(letter)} at position "
            f"{letters.index(letter) + 1}, which is no nucleotide. {_advice(letter)}"
        )
    return Columns([record_id], [letters.translate(_RNA_TO_DNA).decode()]), True


def _check_id(record_id: str, where: str) -> None:
    kinds = {unicodedata.category(letter) for letter in record_id}
    if not kinds & {"Cc", "Cs"}:
        return
    fault = "control characters in its name" if "Cc" in kinds else "a name that is not UTF-8"
    raise BadInputError(
        f"{where} has {fault}, {record_id!a}. Save the file as UTF-8 text, or give the "
        "record a name of plain letters."
    )


def _shown(letter: bytes) -> str:
    return repr(letter.decode()) if letter.isascii() else f"the byte 0x{letter.hex().upper()}"


def _advice(letter: bytes) -> str:
    """What a user who has ``letter`` in a sequence most likely did."""
    if letter.isalpha() or letter == b"*":
        return "Is this a protein? Give DNA."
    if letter.isdigit() or letter.isspace():
        return "Is it copied from a numbered listing? Leave numbers and blanks out."
    return "Is the file damaged, or no FASTA? Get or make it again."
