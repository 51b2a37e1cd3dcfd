"""GenBank files → records, and the codons that their CDS annotations translate."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from xopen import xopen

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.sequences.records import DAMAGE

if TYPE_CHECKING:
    from Bio.SeqFeature import SeqFeature
    from Bio.SeqRecord import SeqRecord

_HEAD_BYTES = 2_000
_FIRST_WORD = b"LOCUS"
_RELEASE_FILE = b"Genetic Sequence Data Bank"  # in the ten lines that open NCBI's release files


@dataclass(frozen=True, slots=True)
class CodingSpan:
    """Whole codons of one CDS that lie side by side: [start, end) of the record's DNA."""

    start: int
    end: int
    strand: str  # "F" or "R"


@dataclass(frozen=True, slots=True)
class AnnotatedRecord:
    """A GenBank entry: its id with the version, its DNA, what its CDS annotations translate."""

    id: str
    dna: str
    coding: tuple[CodingSpan, ...]


def is_genbank(path: str) -> bool:
    """Whether a file, plain or compressed, is GenBank: told from its content.

    Raises
    ------
    BadInputError
        If it cannot be read.
    """
    try:
        with xopen(path, "rb", threads=0) as stream:
            head = stream.read(_HEAD_BYTES).lstrip()
    except DAMAGE as error:
        raise BadInputError(f"{path}: cannot be read: {error}.") from error
    return head.startswith(_FIRST_WORD) or (not head.startswith(b">") and _RELEASE_FILE in head)


def require_biopython(path: str) -> None:
    """Check that Biopython is there.

    Raises
    ------
    UsageError
        If it is not.
    """
    try:
        import Bio  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{path}: is GenBank, which needs Biopython: pip install 'virnuc-dask[training]'."
        ) from error


def read_genbank(path: str) -> Iterator[AnnotatedRecord]:
    """The records of a GenBank file, plain or compressed, one at a time.

    Raises
    ------
    UsageError
        If Biopython is missing.
    BadInputError
        If the file is damaged, or an entry is a protein's or comes without its sequence.
    """
    require_biopython(path)
    from Bio import SeqIO

    count = 0
    with ExitStack() as stack:
        try:
            stream = cast(IO[str], stack.enter_context(xopen(path, "rt", threads=0)))
            records = SeqIO.parse(stream, "genbank")  # type: ignore[no-untyped-call]
            while (record := _next(records)) is not None:
                count += 1
                yield _annotated(path, record)
        except DAMAGE as error:
            after = f"after record {count}" if count else "at its start"
            raise BadInputError(
                f"{path}: not a readable GenBank file ({after}: {error})."
            ) from error


def _next(records: Iterator[SeqRecord]) -> SeqRecord | None:
    # Biopython warns of every line that departs from the format; what it could not read is left
    # out by `_spans_of`.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next(records, None)


def _annotated(path: str, record: SeqRecord) -> AnnotatedRecord:
    from Bio.Seq import UndefinedSequenceError

    name = record.id if record.id and not record.id.startswith("<") else record.name
    if "protein" in str(record.annotations.get("molecule_type", "")).lower():
        raise BadInputError(f"{path}: record {name!r} is a protein. Give DNA.")
    try:
        dna = str(record.seq)
    except UndefinedSequenceError as error:
        raise BadInputError(
            f"{path}: record {name!r} has no sequence (a CON entry, which only points to others). "
            "Download it again with its sequence: NCBI calls that format 'GenBank (full)'."
        ) from error
    spans = [
        span
        for feature in record.features
        if feature.type == "CDS"
        for span in _spans_of(feature)
        if 0 <= span.start < span.end <= len(dna)
    ]
    return AnnotatedRecord(name.split()[0], dna, tuple(spans))


def _spans_of(feature: SeqFeature) -> Iterator[CodingSpan]:
    """The whole codons of a CDS, part by part; none of a pseudogene.

    A codon that two parts share belongs to neither. A partial CDS begins ``codon_start`` - 1 bases
    before its first codon.
    """
    qualifiers = feature.qualifiers
    skipped = qualifiers.get("codon_start", ["1"])[0]
    if feature.location is None or {"pseudo", "pseudogene"} & set(qualifiers):
        return
    if skipped not in ("1", "2", "3"):
        return
    read = 1 - int(skipped)  # bases since the first codon's start
    for part in feature.location.parts:  # in the order of translation, on both strands
        try:
            start, end = int(part.start), int(part.end)
        except TypeError:  # an unknown position
            return
        ahead = -read % 3
        length_nt = max(end - start - ahead, 0) // 3 * 3
        read += end - start
        if part.ref is not None or not length_nt:  # bases of another record
            continue
        if part.strand == -1:
            yield CodingSpan(end - ahead - length_nt, end - ahead, "R")
        else:
            yield CodingSpan(start + ahead, start + ahead + length_nt, "F")
