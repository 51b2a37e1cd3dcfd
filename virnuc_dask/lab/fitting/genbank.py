"""GenBank files → records, by Biopython."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xopen import xopen

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.sequences.records import DAMAGE, Record

if TYPE_CHECKING:
    from Bio.SeqRecord import SeqRecord

_HEAD_BYTES = 2_000
_FIRST_WORD = b"LOCUS"
_RELEASE_FILE = b"Genetic Sequence Data Bank"  # in the ten lines that open NCBI's release files


def is_genbank(path: str) -> bool:
    """Whether a file, plain or compressed, is GenBank: told from its content.

    `BadInputError` if it cannot be read.
    """
    try:
        with xopen(path, "rb", threads=0) as stream:
            head = stream.read(_HEAD_BYTES).lstrip()
    except DAMAGE as error:
        raise BadInputError(f"{path}: cannot be read: {error}.") from error
    return head.startswith(_FIRST_WORD) or (not head.startswith(b">") and _RELEASE_FILE in head)


def read_genbank(path: str) -> Iterator[Record]:
    """The records of a GenBank file, plain or compressed, by their ids with the version.

    `UsageError` if Biopython is missing. `BadInputError` if the file is damaged, or an entry is a
    protein's or comes without its sequence.
    """
    try:
        from Bio import SeqIO
    except ImportError as error:
        raise UsageError(
            f"{path}: is GenBank, which needs Biopython: pip install 'virnuc-dask[training]'."
        ) from error
    count = 0
    try:
        with xopen(path, "rt", threads=0) as stream:
            records = SeqIO.parse(stream, "genbank")  # type: ignore[no-untyped-call]
            while (entry := _next(records)) is not None:
                yield _record(path, count, entry)
                count += 1
    except DAMAGE as error:
        after = f"after record {count}" if count else "at its start"
        raise BadInputError(f"{path}: not a readable GenBank file ({after}: {error}).") from error


def _next(records: Iterator[SeqRecord]) -> SeqRecord | None:
    # Biopython warns of every line that departs from the format, annotations among them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next(records, None)


def _record(path: str, index: int, entry: SeqRecord) -> Record:
    from Bio.Seq import UndefinedSequenceError

    name = entry.id if entry.id and not entry.id.startswith("<") else entry.name
    if "protein" in str(entry.annotations.get("molecule_type", "")).lower():
        raise BadInputError(f"{path}: record {name!r} is a protein. Give DNA.")
    try:
        return Record(index, name.split()[0], str(entry.seq))
    except UndefinedSequenceError as error:
        raise BadInputError(
            f"{path}: record {name!r} has no sequence (a CON entry, which only points to others). "
            "Download it again with its sequence: NCBI calls that format 'GenBank (full)'."
        ) from error
