"""Files of sequences, plain or compressed → records, one at a time."""

from __future__ import annotations

import io
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice, repeat
from pathlib import Path
from pkgutil import resolve_name
from typing import IO, NamedTuple, cast

from xopen import xopen
from xxhash import xxh3_128

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.alignments import is_alignments, read_alignments
from virnuc_dask.sequences.mates import neighbours, paired_files
from virnuc_dask.sequences.text import DNA, Columns, Entry, FormatError, entries
from virnuc_dask.tables.inputs import Source, one_line, sample_of
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


# Columns of neighbouring records, and whether they were RNA.
_Columns = Iterator[tuple[Columns, bool]]


class Origin(NamedTuple):
    """Where records come from; many share one."""

    sample: str = ""
    mate: int = 0  # 1, 2: neighbours that make a pair; -1: the other one is missing; 0: no pairs
    was_rna: bool = False  # had U, which is T in ``dna``


@dataclass(slots=True)  # a frozen one takes five times as long to make
class Record:
    """One FASTA or FASTQ entry, or read of a BAM; ``index`` counts from 0.

    ``id`` is the header's first word, ``description`` the rest.
    """

    index: int
    id: str
    dna: str
    origin: Origin = Origin()  # noqa: RUF009  # it cannot be changed
    description: str = ""


def read_records(
    inputs: Iterable[str | Source],
    digest: xxh3_128 | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """The records of all inputs, in order, holding one at a time. U is read as T.

    Inputs are paths, `STDIN`, or sources. ``digest`` takes in their raw bytes as they are read, of
    two files of mates the digests of both; it is complete once the iterator is exhausted.
    ``left_out`` counts, by kind, alignments beside the primary ones. `BadInputError` if a
    file is missing, damaged, or holds anything but nucleotides.
    """
    numbers, total = count(), digest or xxh3_128()
    left_out = Counter() if left_out is None else left_out
    for source in map(_as_source, inputs):
        with _digests(source, total) as digests:
            files = [
                _read_file(path, each, left_out, source.paired)
                for path, each in zip(source.paths, digests, strict=True)
            ]
            if source.paired or (source.paired is None and is_alignments(source.paths[0])):
                yield from _paired(source, files, numbers)
            else:
                yield from _records(files[0], source.sample, numbers)


def _records(file: _Columns, sample: str, numbers: Iterator[int]) -> Iterator[Record]:
    """The records of a file, numbered."""
    for columns, was_rna in file:
        index, origin = islice(numbers, len(columns.ids)), Origin(sample, 0, was_rna)
        told = (columns.descriptions,) if columns.descriptions else ()
        yield from map(Record, index, columns.ids, columns.dna, repeat(origin), *told)


def _paired(source: Source, files: list[_Columns], numbers: Iterator[int]) -> Iterator[Record]:
    """Records with their mates; numbered as mates follow one another."""
    one, *two = (_records(file, source.sample, repeat(0)) for file in files)
    pairs = paired_files(one, two[0], source.paths) if two else neighbours(one, source.paired)
    for record, mate in pairs:
        record.index = next(numbers)
        record.origin = Origin(source.sample, mate, record.origin.was_rna)
        yield record


def hash_inputs(inputs: Iterable[str | Source], digest: xxh3_128) -> None:
    """Give ``digest`` what `read_records` does, without parsing it."""
    for source in map(_as_source, inputs):
        with _digests(source, digest) as digests, ExitStack() as stack:
            for path, each in zip(source.paths, digests, strict=True):
                raw = _open_raw(path, stack)
                while block := raw.read(_BUFFER):
                    each.update(block)


def _as_source(given: str | Source) -> Source:
    return given if isinstance(given, Source) else Source((str(given),), sample_of(given))


@contextmanager
def _digests(source: Source, total: xxh3_128) -> Iterator[list[xxh3_128]]:
    """A digest for each file; those of files that are read at once are taken in at the end."""
    if len(source.paths) == 1:
        yield [total]
        return
    digests = [xxh3_128() for _ in source.paths]
    yield [*digests]
    for each in digests:
        total.update(each.digest())


class _Digesting(io.RawIOBase):
    """Passes on what it reads, to the digest too."""

    def __init__(self, raw: io.BufferedIOBase, digest: xxh3_128) -> None:
        self._raw = raw
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)
        self._digest.update(buffer[:count])
        return count


def _open_raw(source: str, stack: ExitStack) -> io.BufferedIOBase:
    if source == STDIN:
        return cast(io.BufferedIOBase, sys.stdin.buffer)
    try:
        return stack.enter_context(Path(source).open("rb"))
    except OSError as error:
        raise BadInputError(f"{source}: cannot be read: {error.strerror}.") from error


def _read_file(
    source: str, digest: xxh3_128, left_out: Counter[str], paired: bool | None
) -> _Columns:
    aligned = is_alignments(source)
    name = "standard input" if source == STDIN else source
    done = 0
    with ExitStack() as stack:
        raw = io.BufferedReader(_Digesting(_open_raw(source, stack), digest), _BUFFER)
        try:
            for found in (
                read_alignments(source, left_out, together=paired is not False)
                if aligned
                else _entries(raw, stack)
            ):
                if isinstance(found, Columns):
                    done += len(found.ids)
                    yield found, False
                else:
                    done += 1
                    yield _check(name, done, found)
            while raw.read(_BUFFER):  # what follows the last record still belongs to the digest
                pass
        except DAMAGE as error:
            after = f"after record {done}" if done else "at its start"
            fault = str(error)
            if not isinstance(error, FormatError):
                fault += ". Is it complete? Get it again."
            raise BadInputError(
                f"{name}: not a readable {'BAM or CRAM' if aligned else 'FASTA or FASTQ'} file; "
                f"{after}, {fault}"
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
    record_id, description = words[0], one_line("".join(words[1:]))
    if not (record_id.isascii() and record_id.isprintable()):
        _check_id(record_id, f"{name}: record {number}")
    other = letters.translate(None, DNA)
    if not other:
        return Columns([record_id], [letters.decode()], [description]), False
    if wrong := other.translate(None, b"Uu"):
        letter = wrong[:1]
        raise BadInputError(
            f"{name}: record {record_id!r} (number {number}) has {_shown(letter)} at position "
            f"{letters.index(letter) + 1}, which is no nucleotide. {_advice(letter)}"
        )
    dna = letters.translate(_RNA_TO_DNA).decode()
    return Columns([record_id], [dna], [description]), True


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
