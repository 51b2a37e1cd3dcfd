"""Labelled files: whose records are viral, and whose are not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.sequences.bases import reverse_complement
from virnuc_dask.sequences.records import read_records
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
    """Groups in the order in which a run reads them."""

    groups: tuple[Group, ...]
    in_both: tuple[str, ...]  # ids of other records whose DNA is that of a viral one, too

    @property
    def files(self) -> tuple[str, ...]:
        """The inputs of a run."""
        return tuple(group.file for group in self.groups)

    @property
    def group_of(self) -> NDArray[np.int64]:
        """The group of each record, by record index."""
        return np.repeat(np.arange(len(self.groups)), [g.records for g in self.groups])

    @property
    def is_virus(self) -> NDArray[np.bool_]:
        """The label of each record, by record index."""
        return np.array([g.is_virus for g in self.groups], np.bool_)[self.group_of]


def read_labelled(virus: Sequence[str], other: Sequence[str]) -> LabelledFiles:
    """Read and count both classes, and compare their DNA.

    DNA counts as the same on either strand and in either case.

    Raises
    ------
    UsageError
        If a class has no file, a file is given twice or is standard input.
    BadInputError
        If a file cannot be read or holds no records.
    """
    files = [*virus, *other]
    check_classes(virus, other)
    viral_dna: set[int] = set()
    in_both: list[str] = []
    groups = []
    for number, (file, name) in enumerate(zip(files, group_names(files), strict=True)):
        is_virus = number < len(virus)
        groups.append(_read_group(name, file, is_virus, viral_dna, in_both))
    return LabelledFiles(tuple(groups), tuple(in_both))


def group_names(files: Sequence[str]) -> list[str]:
    """The stems of files, without format and compression; with more of the path where they repeat.

    ``virus/test.fa`` and ``other/test.fa.gz`` are ``virus/test`` and ``other/test``.
    """
    paths = [Path(file).resolve() for file in files]
    parts = [[*path.parts[1:-1], _stem(path)] for path in paths]
    longest = max(map(len, parts), default=0)
    for depth in range(1, longest + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        unique = [name if names.count(name) == 1 else None for name in names]
        if depth == 1:
            chosen = list(unique)
        chosen = [old or new for old, new in zip(chosen, unique, strict=True)]
    # a.fa and a.fa.gz of one folder.
    return [name or path.name for name, path in zip(chosen, paths, strict=True)]


def _stem(path: Path) -> str:
    name = Path("".join(letter if letter.isprintable() else "\ufffd" for letter in path.name))
    if name.suffix.lower() in _COMPRESSION:
        name = name.with_suffix("")
    return name.stem if name.suffix.lower() in _FORMATS else name.name


def check_classes(virus: Sequence[str], other: Sequence[str]) -> None:
    """Check that both classes have files, which can be read twice and belong to one class only.

    Raises
    ------
    UsageError
        If a class has no file, a file is given twice or is standard input.
    BadInputError
        If there is no such file.
    """
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


def _read_group(
    name: str, file: str, is_virus: bool, viral_dna: set[int], in_both: list[str]
) -> Group:
    digest = hashlib.sha256()
    records = length_nt = 0
    for record in read_records([file], digest):
        records += 1
        length_nt += len(record.dna)
        if not record.dna:
            continue
        dna = dna_digest(record.dna)
        if is_virus:
            viral_dna.add(dna)
        elif dna in viral_dna:
            in_both.append(record.id)
    if not records:
        raise BadInputError(f"{file}: holds no records; nothing to evaluate.")
    return Group(name, file, is_virus, records, length_nt, digest.hexdigest())


def dna_digest(dna: str) -> int:
    """64 bits, the same for both strands, for upper and lower case, for T and U."""
    forward = dna.upper().replace("U", "T")
    return xxhash.xxh3_64_intdigest(min(forward, reverse_complement(forward)).encode())
