"""Files of two classes → one FASTA file without repeats, and what is known of each record."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress, starmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.labelled.files import check_classes, dna_digest
from virnuc_dask.lab.fitting.coding import CodingIndex, FrameSpans
from virnuc_dask.lab.fitting.genbank import (
    AnnotatedRecord,
    is_genbank,
    read_genbank,
    require_biopython,
)
from virnuc_dask.modelsets.manifest import sha256
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.parquet import written_whole


@dataclass(frozen=True, slots=True)
class DataFile:
    """One input file, as the model card names it."""

    name: str
    is_virus: bool
    is_genbank: bool
    records: int
    length_nt: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Records that are not used."""

    empty: int = 0
    repeated: int = 0  # same DNA as a record of the same class, on either strand
    contradictory: int = 0  # same DNA as a record of the other class


@dataclass(frozen=True, slots=True)
class TrainingRecords:
    """The records in ``fasta``; arrays are by their index there."""

    fasta: Path
    files: tuple[DataFile, ...]
    left_out: LeftOut
    is_virus: NDArray[np.bool_]
    length_nt: NDArray[np.int64]
    group: NDArray[np.int64] | None  # where groups were given
    coding: CodingIndex | None  # where only frames in a CDS are to be learned from

    @property
    def usable_nt(self) -> NDArray[np.int64]:
        """Nucleotides to learn from: all, or those that a CDS translates."""
        if self.coding is None:
            return self.length_nt
        return self.coding.coding_nt


@dataclass
class _Gathered:
    """What the first reading keeps of each record: 24 bytes, and its coding spans."""

    groups: Mapping[str, int] | None
    length_nt: array[int] = field(default_factory=lambda: array("q"))
    digest: array[int] = field(default_factory=lambda: array("Q"))
    group: array[int] = field(default_factory=lambda: array("q"))
    spans: list[NDArray[np.int64]] = field(default_factory=list)  # columns as `FrameSpans`

    def read(self, path: str, is_virus: bool, genbank: bool) -> DataFile:
        """Take in the records of a file."""
        before = len(self.digest)
        for entry in _entries(path, genbank):
            if entry.coding:
                rows = [(len(self.digest), s.start, s.end, s.strand == "R") for s in entry.coding]
                self.spans.append(np.array(rows, np.int64))
            self.length_nt.append(len(entry.dna))
            self.digest.append(dna_digest(entry.dna))
            if self.groups is not None:
                if entry.id not in self.groups:
                    raise UsageError(f"--groups: no group for record {entry.id!r}; give it one.")
                self.group.append(self.groups[entry.id])
        lengths = self.length_nt[before:]
        counts = len(lengths), sum(lengths)
        return DataFile(Path(path).name, is_virus, genbank, *counts, sha256(Path(path)))


def gather_records(
    virus: Sequence[str],
    other: Sequence[str],
    fasta: Path,
    *,
    groups: Mapping[str, int] | None = None,
    cds_only: bool = False,
) -> TrainingRecords:
    """Read both classes, FASTA, FASTQ or GenBank, and write their records to ``fasta``.

    A record that repeats another's DNA, on either strand, is left out; both are if their classes
    differ.

    Raises
    ------
    UsageError
        If a file is given twice or is standard input, if Biopython is needed and missing, if
        ``cds_only`` is asked of files without annotation, or ``groups`` lacks a record.
    BadInputError
        If a file cannot be read, or a class has no record.
    """
    check_classes(virus, other)
    annotated = {path: is_genbank(path) for path in (*virus, *other)}
    _require_annotation(annotated, cds_only)
    gathered, files = _Gathered(groups), []
    for path, genbank in annotated.items():
        spans = len(gathered.spans)
        files.append(gathered.read(path, path in virus, genbank))
        if cds_only and len(gathered.spans) == spans:
            raise BadInputError(f"{path}: has no CDS with a codon; leave --cds-only out.")
    is_virus = np.repeat([file.is_virus for file in files], [file.records for file in files])
    length_nt = np.array(gathered.length_nt, np.int64)
    kept, left_out = _choose(np.array(gathered.digest, np.uint64), is_virus, length_nt)
    _require_both(is_virus[kept], left_out)
    with written_whole(fasta) as stream:
        for entry in compress(chain.from_iterable(starmap(_entries, annotated.items())), kept):
            stream.write(f">{entry.id}\n{entry.dna}\n".encode())
    return TrainingRecords(
        fasta=fasta,
        files=tuple(files),
        left_out=left_out,
        is_virus=is_virus[kept],
        length_nt=length_nt[kept],
        group=np.array(gathered.group, np.int64)[kept] if groups is not None else None,
        coding=_coding(gathered.spans, kept, length_nt[kept]) if cds_only else None,
    )


def _entries(path: str, genbank: bool) -> Iterator[AnnotatedRecord]:
    if genbank:
        return read_genbank(path)
    return (AnnotatedRecord(record.id, record.dna, ()) for record in read_records([path]))


def _require_annotation(files: Mapping[str, bool], cds_only: bool) -> None:
    for path, genbank in files.items():
        if genbank:
            require_biopython(path)
        elif cds_only:
            raise UsageError(f"{path}: --cds-only needs GenBank files, whose CDS it reads.")


def _require_both(is_virus: NDArray[np.bool_], left_out: LeftOut) -> None:
    for name, side in (("virus", is_virus), ("others", ~is_virus)):
        if not side.any():
            raise BadInputError(
                f"no record of {name} is left to learn from (repeated: {left_out.repeated}, in "
                f"both classes: {left_out.contradictory}, empty: {left_out.empty})."
            )


def _choose(
    digest: NDArray[np.uint64], is_virus: NDArray[np.bool_], length_nt: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], LeftOut]:
    """Which records are kept: the first of each DNA, unless both classes have it."""
    filled = length_nt > 0
    _, first, same = np.unique(digest, return_index=True, return_inverse=True)
    viral = np.bincount(same, weights=is_virus) > 0
    others = np.bincount(same, weights=~is_virus) > 0
    contradictory = filled & (viral & others)[same]
    is_first = np.zeros(len(digest), np.bool_)
    is_first[first] = True
    kept = filled & is_first & ~contradictory
    counts = (~filled).sum(), (filled & ~contradictory & ~is_first).sum(), contradictory.sum()
    return kept, LeftOut(*map(int, counts))


def _coding(
    spans: Sequence[NDArray[np.int64]], kept: NDArray[np.bool_], length_nt: NDArray[np.int64]
) -> CodingIndex:
    """The spans of the kept records, by their new index."""
    record, start, end, is_reverse = np.concatenate(spans).T
    here, new_index = kept[record], np.cumsum(kept) - 1
    columns = new_index[record], start, end, is_reverse.astype(np.bool_)
    return CodingIndex(FrameSpans(*(column[here] for column in columns)), length_nt)


def read_groups(path: Path) -> dict[str, int]:
    """Numbers for the groups of a table: record id, tab, group; further columns are ignored.

    Raises
    ------
    BadInputError
        If it cannot be read, a line has no group, or a record has two.
    """
    group_of: dict[str, int] = {}
    numbers: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for line, row in enumerate(csv.reader(stream, "excel-tab", quoting=csv.QUOTE_NONE), 1):
                if not row:
                    continue
                if len(row) < 2 or not all(row[:2]):
                    raise BadInputError(f"{path}: line {line} has no record id, tab and group.")
                number = numbers.setdefault(row[1], len(numbers))
                if group_of.setdefault(row[0], number) != number:
                    raise BadInputError(f"{path}: record {row[0]!r} has two groups (line {line}).")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: cannot be read: {error}.") from error
    return group_of
