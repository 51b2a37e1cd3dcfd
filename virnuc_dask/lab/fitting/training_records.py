"""Files of two classes → one FASTA file without repeats, and what is known of each record."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.fitting.genbank import is_genbank, read_genbank
from virnuc_dask.lab.labelled import Group, LabelledFiles, read_labelled
from virnuc_dask.sequences.records import Record, read_records
from virnuc_dask.tables.parquet import written_whole


@dataclass(frozen=True, slots=True)
class TrainingRecords:
    """The records in ``fasta``; arrays are by their index there."""

    fasta: Path
    files: tuple[Group, ...]  # by their names in their folders
    left_out: dict[str, int]  # how many are not used, by reason
    is_virus: NDArray[np.bool_]
    length_nt: NDArray[np.int64]
    group: NDArray[np.int64] | None  # where groups were given


def gather_records(
    virus: Sequence[str], other: Sequence[str], fasta: Path, groups: Mapping[str, int] | None = None
) -> TrainingRecords:
    """Read both classes, FASTA, FASTQ or GenBank, and write their records to ``fasta``.

    A record that repeats another's DNA, on either strand, is left out; both are if their classes
    differ.

    `UsageError` if a file is given twice or is standard input, if Biopython is needed and missing,
    or ``groups`` lacks a record. `BadInputError` if a file cannot be read or has no records, or no
    record of a class is left.
    """
    group = array("q")

    def grouped(file: str) -> Iterator[Record]:
        for record in _records(file):
            if groups is not None:
                if record.id not in groups:
                    raise UsageError(f"--groups: no group for record {record.id!r}; give it one.")
                group.append(groups[record.id])
            yield record

    labelled = read_labelled(virus, other, grouped)
    kept, left_out = _choose(labelled)
    with written_whole(fasta) as stream:
        for record in compress(chain.from_iterable(map(_records, labelled.files)), kept):
            stream.write(f">{record.id}\n{record.dna}\n".encode())
    return TrainingRecords(
        fasta=fasta,
        files=tuple(replace(file, name=Path(file.file).name) for file in labelled.groups),
        left_out=left_out,
        is_virus=labelled.is_virus[kept],
        length_nt=labelled.length_nt[kept],
        group=np.array(group, np.int64)[kept] if groups is not None else None,
    )


def _records(file: str) -> Iterator[Record]:
    return read_genbank(file) if is_genbank(file) else read_records([file])


def _choose(labelled: LabelledFiles) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which records are kept: the first of each DNA, unless both classes have it."""
    filled, is_virus = labelled.length_nt > 0, labelled.is_virus
    _, first, same = np.unique(labelled.dna, return_index=True, return_inverse=True)
    viral, others = (np.bincount(same, weights=side) > 0 for side in (is_virus, ~is_virus))
    contradictory = filled & (viral & others)[same]
    is_first = first[same] == np.arange(len(same))
    reasons = {
        "empty": ~filled,
        "repeated": filled & ~contradictory & ~is_first,
        "contradictory": contradictory,
    }
    left_out = {reason: int(rows.sum()) for reason, rows in reasons.items()}
    kept = filled & ~contradictory & is_first
    for name, side in (("virus", is_virus), ("others", ~is_virus)):
        if not (kept & side).any():
            raise BadInputError(
                f"no record of {name} is left to learn from (repeated: {left_out['repeated']}, in "
                f"both classes: {left_out['contradictory']}, empty: {left_out['empty']})."
            )
    return kept, left_out


def read_groups(path: Path) -> dict[str, int]:
    """Numbers for the groups of a table: record id, tab, group; further columns are ignored.

    `BadInputError` if it cannot be read, a line has no group, or a record has two.
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
