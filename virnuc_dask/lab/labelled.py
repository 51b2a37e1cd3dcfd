"""Labelled files: whose records are viral, and whose are not."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.modelsets.manifest import sha256
from virnuc_dask.sequences.bases import reverse_complement
from virnuc_dask.sequences.records import Record, read_records
from virnuc_dask.tables.paths import STDIN

_COMPRESSION = {".gz", ".bz2", ".xz", ".zst"}
_FORMATS = {".fa", ".fasta", ".fna", ".ffn", ".fas", ".fq", ".fastq"}


@dataclass(frozen=True, slots=True)
class Group:
    """The records of one file, all of one class; ``name`` is the file's stem."""

    name: str
    file: str
    is_virus: bool
    records: int
    length_nt: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Groups in the order in which a run reads them; arrays are by record."""

    groups: tuple[Group, ...]
    length_nt: NDArray[np.int64]
    dna: NDArray[np.uint64]  # 64 bits, the same for both strands, upper and lower case, T and U

    @property
    def files(self) -> tuple[str, ...]:
        """The inputs of a run."""
        return tuple(group.file for group in self.groups)

    @property
    def group_of(self) -> NDArray[np.int64]:
        """The group of each record."""
        return np.repeat(np.arange(len(self.groups)), [g.records for g in self.groups])

    @property
    def is_virus(self) -> NDArray[np.bool_]:
        """The label of each record."""
        return np.array([g.is_virus for g in self.groups], np.bool_)[self.group_of]

    @property
    def in_both(self) -> NDArray[np.int64]:
        """Other records whose DNA is that of a viral one, too; none of those without DNA."""
        viral = self.dna[self.is_virus & (self.length_nt > 0)]
        return np.flatnonzero(~self.is_virus & np.isin(self.dna, viral))


def _read(file: str) -> Iterable[Record]:
    return read_records([file])


def read_labelled(
    virus: Sequence[str], other: Sequence[str], read: Callable[[str], Iterable[Record]] = _read
) -> LabelledFiles:
    """Read and count the records of both classes; ``read`` gives those of a file.

    `UsageError` if a class has no file, a file is given twice or is standard input. `BadInputError`
    if a file cannot be read or holds no records.
    """
    _check_classes(virus, other)
    files, groups = [*virus, *other], []
    length_nt, dna = array("q"), array("Q")
    for number, (file, name) in enumerate(zip(files, group_names(files), strict=True)):
        before = len(dna)
        for record in read(file):
            length_nt.append(len(record.dna))
            dna.append(_digest(record.dna))
        if len(dna) == before:
            raise BadInputError(f"{file}: holds no records.")
        counts = len(dna) - before, sum(length_nt[before:])
        groups.append(Group(name, file, number < len(virus), *counts, sha256(Path(file))))
    return LabelledFiles(tuple(groups), np.array(length_nt, np.int64), np.array(dna, np.uint64))


def group_names(files: Sequence[str]) -> list[str]:
    """The stems of files, without format and compression; where they repeat, the whole paths."""
    stems = [_stem(Path(file)) for file in files]
    names = [
        stem if stems.count(stem) == 1 else file for file, stem in zip(files, stems, strict=True)
    ]
    return ["".join(c if c.isprintable() else "\ufffd" for c in name) for name in names]


def _stem(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() in _COMPRESSION else path
    return name.stem if name.suffix.lower() in _FORMATS else name.name


def _check_classes(virus: Sequence[str], other: Sequence[str]) -> None:
    """Check that both classes have files, which can be read twice and belong to one class only."""
    for option, files in (("--virus", virus), ("--other", other)):
        if not files:
            raise UsageError(f"no {option} file; both classes are needed.")
    if STDIN in (*virus, *other):
        raise UsageError(
            "standard input cannot be read twice, as labelled records are. Give files."
        )
    seen: set[Path] = set()
    for file in (*virus, *other):
        path = Path(file).resolve()
        if path in seen:
            raise UsageError(f"{file}: given twice; a file belongs to one class, once.")
        if not path.is_file():
            raise BadInputError(f"{file}: no such file.")
        seen.add(path)


def _digest(dna: str) -> int:
    forward = dna.upper().replace("U", "T")
    return xxhash.xxh3_64_intdigest(min(forward, reverse_complement(forward)).encode())
