"""MetaPhlAn's marker genes → labelled genes, split without leaks.

The names tell the labels: ``GeneID:…`` are viral; ``gi|…`` are bacterial, archaeal and eukaryotic,
those with an ``XM_`` or ``NM_`` accession eukaryotic transcripts. Whatever else there is (a few
``NC_…``, of mixed origin) is left out.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.records import read_records
from virnuc_dask.training.similar import KmerSet

VIRUS, TRANSCRIPT, OTHER = "virus", "transcript", "other"
TRAIN, VALIDATION, TEST = "train", "validation", "test"

_NAME = re.compile(r"(?P<source>GeneID:|gi\|)(?P<number>\d+)")
_TRANSCRIPT = re.compile(r"\|[XN]M_")

# Genes of one genome have neighbouring numbers; so many in a row go to the same side of the split.
_NEIGHBOURS = 50
_TEST_SHARE, _VALIDATION_SHARE = 0.10, 0.05
_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class Gene:
    """A labelled gene: ``kind`` is `VIRUS`, `TRANSCRIPT` or `OTHER`."""

    name: str
    dna: str
    kind: str

    @property
    def is_virus(self) -> bool:
        """The label."""
        return self.kind == VIRUS

    @property
    def part(self) -> str:
        """`TRAIN`, `VALIDATION` or `TEST`; the same for all genes of a neighbourhood."""
        return part_of(self.name)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What must never be used: genes by name, and genes that share a 31-mer with a sequence."""

    names: frozenset[str] = frozenset()
    similar: KmerSet = field(default_factory=KmerSet)

    @classmethod
    def read(cls, names: Path | None, similar: Iterable[Path]) -> Exclusions:
        """Read a file with a name a line, and FASTA files."""
        listed = names.read_text(encoding="ascii").split() if names else ()
        sequences = (record.dna for record in read_records([str(path) for path in similar]))
        return cls(frozenset(listed), KmerSet.of(sequences))


@dataclass(frozen=True, slots=True)
class GeneSet:
    """The genes that may be used, why others may not, and the file's SHA-256."""

    genes: list[Gene]
    left_out: dict[str, int]
    sha256: str

    def part(self, part: str) -> list[Gene]:
        """The genes of one side of the split, in file order."""
        return [gene for gene in self.genes if gene.part == part]

    def counts(self) -> dict[str, dict[str, int]]:
        """Genes by side of the split and kind."""
        table = Counter((gene.part, gene.kind) for gene in self.genes)
        return {
            part: {kind: table[part, kind] for kind in (VIRUS, TRANSCRIPT, OTHER)}
            for part in (TRAIN, VALIDATION, TEST)
        }


def read_genes(markers: Path, exclusions: Exclusions) -> GeneSet:
    """Read the markers, leave out what must not be used, and every sequence's copies.

    Raises
    ------
    BadInputError
        If the file cannot be read or has no viral or no other gene.
    """
    digest = hashlib.sha256()
    left_out: Counter[str] = Counter()
    genes: list[Gene] = []
    records = ((record.id, record.dna.upper()) for record in read_records([str(markers)], digest))
    while batch := list(islice(records, _BATCH)):
        genes += _usable(batch, exclusions, left_out)
    unique = _without_copies(genes)
    left_out["copy"] = len(genes) - len(unique)
    if len({gene.is_virus for gene in unique}) < 2:
        raise BadInputError(f"{markers}: needs genes named `GeneID:…` (viral) and `gi|…` (others).")
    return GeneSet(unique, dict(left_out), digest.hexdigest())


def kind_of(name: str) -> str | None:
    """`VIRUS`, `TRANSCRIPT` or `OTHER` by a gene's name; None if it is to be left out."""
    found = _NAME.match(name)
    if not found:
        return None
    if found["source"] == "GeneID:":
        return VIRUS
    return TRANSCRIPT if _TRANSCRIPT.search(name) else OTHER


def part_of(name: str) -> str:
    """The side of the split, by a hash of the gene's neighbourhood: it depends on no seed."""
    place = _hash(neighbourhood_of(name)) / 2**64
    if place < _TEST_SHARE:
        return TEST
    return VALIDATION if place < _TEST_SHARE + _VALIDATION_SHARE else TRAIN


def neighbourhood_of(name: str) -> str:
    """The gene's block of neighbouring numbers; all genes of an accession share their number."""
    found = _NAME.match(name)
    return f"{found['source']}{int(found['number']) // _NEIGHBOURS}" if found else name


def _usable(
    batch: list[tuple[str, str]], exclusions: Exclusions, left_out: Counter[str]
) -> Iterator[Gene]:
    similar = exclusions.similar.shared_with([dna for _, dna in batch])
    for (name, dna), is_similar in zip(batch, similar.tolist(), strict=True):
        kind = kind_of(name)
        if kind is None:
            left_out["unlabelled"] += 1
        elif name in exclusions.names:
            left_out["excluded by name"] += 1
        elif is_similar:
            left_out["similar to an excluded sequence"] += 1
        else:
            yield Gene(name, dna, kind)


def _without_copies(genes: list[Gene]) -> list[Gene]:
    """The first of each set of identical sequences; none if it is labelled both ways."""
    hashes = np.fromiter(
        (xxhash.xxh3_64_intdigest(gene.dna.encode("ascii")) for gene in genes), np.uint64
    )
    is_virus = np.fromiter((gene.is_virus for gene in genes), np.bool_)
    _, first, copy_of = np.unique(hashes, return_index=True, return_inverse=True)
    viral = np.bincount(copy_of, weights=is_virus)
    agreed: NDArray[np.bool_] = (viral == 0) | (viral == np.bincount(copy_of))
    return [genes[index] for index in np.sort(first[agreed]).tolist()]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("ascii"))
