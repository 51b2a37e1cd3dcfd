"""Labelled genes, and which side of the split each one is on.

Genes come from MetaPhlAn's markers, whose names tell the labels (``GeneID:…`` are viral; ``gi|…``
are bacterial, archaeal and eukaryotic, those with an ``XM_`` or ``NM_`` accession eukaryotic
transcripts; the few ``NC_…``, of mixed origin, are left out), and from FASTA files of one label.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray
from xopen import xopen

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.records import DAMAGE, read_records
from virnuc_dask.training.similar import KmerSet

VIRUS, TRANSCRIPT, OTHER, GENOME = "virus", "transcript", "other", "genome"
KINDS = (VIRUS, TRANSCRIPT, OTHER, GENOME)
TRAIN, VALIDATION, TEST = "train", "validation", "test"
PARTS = (TRAIN, VALIDATION, TEST)

_NAME = re.compile(r"(?P<source>GeneID:|gi\|)(?P<number>\d+)(?:\|\w+\|(?P<accession>[^|]+))?")
# Contigs of one draft genome share the first letters and the version of their accessions.
_DRAFT = re.compile(r"(?:[A-Z]{2}_)?(?P<assembly>[A-Z]{4}\d{2})\d{6}")
_TRANSCRIPT = re.compile(r"[XN]M_(\d+)")

# Viral genes have no accession; those of one genome have neighbouring numbers. So have transcripts.
_NEIGHBOURS = {VIRUS: 50, TRANSCRIPT: 500}
_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class Gene:
    """A labelled gene: ``kind`` is `VIRUS`, `TRANSCRIPT` or `OTHER`.

    ``genome`` stays whole in a split: an assembly, a block of neighbouring numbers that stands in
    for one virus, or the gene itself where nothing is known.
    """

    name: str
    dna: str
    kind: str
    genome: str

    @property
    def is_virus(self) -> bool:
        """The label."""
        return self.kind == VIRUS


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What must never be used: genes by name, and genes that share a 31-mer with a sequence."""

    names: frozenset[str] = frozenset()
    similar: KmerSet = field(default_factory=KmerSet)

    @classmethod
    def read(cls, names: Path | None, similar: Iterable[Path]) -> Exclusions:
        """Read a file with a name a line, and FASTA files.

        Raises
        ------
        BadInputError
            If one cannot be read.
        """
        listed = _words(names) if names else ()
        sequences = (record.dna for record in read_records([str(path) for path in similar]))
        return cls(frozenset(listed), KmerSet.of(sequences))


@dataclass(frozen=True, slots=True)
class GeneSet:
    """The genes that may be used, why others may not, and the files' SHA-256."""

    genes: list[Gene]
    left_out: Mapping[str, int]
    sha256: Mapping[str, str]


def read_genes(
    markers: Path | None,
    labelled: Mapping[str, Sequence[Path]],
    exclusions: Exclusions,
    most_per_genome: int,
) -> GeneSet:
    """Read all genes; leave out what must not be used, copies, and the rest of large genomes.

    Parameters
    ----------
    markers
        MetaPhlAn's FASTA file.
    labelled
        FASTA files by kind, for sequences whose names say nothing.
    most_per_genome
        Genes of kind `OTHER` kept of each genome, chosen by a hash of their names.

    Raises
    ------
    BadInputError
        If a file cannot be read or there is no viral or no other gene.
    """
    left_out: Counter[str] = Counter()
    sha256: dict[str, str] = {}
    genes: list[Gene] = []
    sources: list[tuple[Path, str | None]]
    sources = [(path, kind) for kind, paths in labelled.items() for path in paths]
    sources = [*([(markers, None)] if markers else []), *sources]
    require_own_names([path for path, _ in sources])
    for path, kind in sources:
        digest = hashlib.sha256()
        records = ((r.id, r.dna.upper()) for r in read_records([str(path)], digest))
        while batch := list(islice(records, _BATCH)):
            genes += _usable(batch, kind, exclusions, left_out)
        sha256[path.name] = digest.hexdigest()
    unique = _without_copies(genes)
    left_out["copy"] = len(genes) - len(unique)
    kept = _of_each_genome(unique, most_per_genome)
    left_out["more than enough of its genome"] = len(unique) - len(kept)
    if len({gene.is_virus for gene in kept}) < 2:
        raise BadInputError(
            f"{', '.join(sha256) or 'no file'}: needs viral genes and others; markers are named "
            "`GeneID:…` (viral) and `gi|…` (others)."
        )
    return GeneSet(kept, dict(left_out), sha256)


def kind_of(name: str) -> str | None:
    """`VIRUS`, `TRANSCRIPT` or `OTHER` by a marker's name; None if it is to be left out."""
    found = _NAME.match(name)
    if not found:
        return None
    if found["source"] == "GeneID:":
        return VIRUS
    return TRANSCRIPT if _TRANSCRIPT.match(found["accession"] or "") else OTHER


def genome_of(name: str) -> str:
    """What a marker's name tells of its genome; the name itself if it is no marker's."""
    found = _NAME.match(name)
    if not found:
        return name
    accession = found["accession"] or ""
    if found["source"] == "GeneID:":
        return f"GeneID:{int(found['number']) // _NEIGHBOURS[VIRUS]}"
    if transcript := _TRANSCRIPT.match(accession):
        return f"XM:{int(transcript[1]) // _NEIGHBOURS[TRANSCRIPT]}"
    draft = _DRAFT.match(accession)
    return draft["assembly"] if draft else accession.partition(".")[0] or name


def require_own_names(paths: Iterable[Path]) -> None:
    """Refuse two files of one name: a model card names files without their folders.

    Raises
    ------
    BadInputError
        Naming the first such file.
    """
    taken: set[str] = set()
    for path in paths:
        if path.name in taken:
            raise BadInputError(f"{path}: another file has the same name; rename one of them.")
        taken.add(path.name)


def part_of(genome: str, shares: Mapping[str, float]) -> str:
    """The side of the split, by a hash of the genome: it depends on no seed.

    Parameters
    ----------
    shares
        Of `TEST` and `VALIDATION`; the rest is `TRAIN`.
    """
    place = _hash(f"part of {genome}") / 2**64
    if place < shares[TEST]:
        return TEST
    return VALIDATION if place < shares[TEST] + shares[VALIDATION] else TRAIN


def count_genes(parts: Mapping[str, Collection[Gene]]) -> dict[str, dict[str, int]]:
    """Genes by side of the split and kind."""
    table = Counter((part, gene.kind) for part, genes in parts.items() for gene in genes)
    return {part: {kind: table[part, kind] for kind in KINDS} for part in PARTS}


def digest_of(genes: Iterable[Gene], *settings: object) -> str:
    """A hash of genes, their DNA above all, and of what is done with them: what a cache is of."""
    digest = xxhash.xxh3_128(json.dumps(settings).encode())
    for gene in genes:
        digest.update(f"{gene.name} {gene.kind} {gene.genome} {gene.dna}\n".encode())
    return digest.hexdigest()


def _words(path: Path) -> list[str]:
    try:
        with xopen(path, "rb", threads=0) as stream:
            return [word.decode("ascii") for word in stream.read().split()]
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: must hold a name a line, plain ASCII.") from error
    except DAMAGE as error:
        raise BadInputError(f"{path}: cannot be read: {error}.") from error


def _usable(
    batch: list[tuple[str, str]],
    label: str | None,
    exclusions: Exclusions,
    left_out: Counter[str],
) -> Iterator[Gene]:
    similar = exclusions.similar.shared_with([dna for _, dna in batch])
    for (name, dna), is_similar in zip(batch, similar.tolist(), strict=True):
        kind = label or kind_of(name)
        if kind is None:
            left_out["unlabelled"] += 1
        elif name in exclusions.names:
            left_out["excluded by name"] += 1
        elif is_similar:
            left_out["similar to an excluded sequence"] += 1
        else:
            yield Gene(name, dna, kind, genome_of(name))


def _without_copies(genes: list[Gene]) -> list[Gene]:
    """The first of each set of identical sequences; none if it is labelled both ways."""
    hashes = np.fromiter((_hash(gene.dna) for gene in genes), np.uint64, len(genes))
    is_virus = np.fromiter((gene.is_virus for gene in genes), np.bool_, len(genes))
    _, first, copy_of = np.unique(hashes, return_index=True, return_inverse=True)
    viral = np.bincount(copy_of, weights=is_virus)
    agreed: NDArray[np.bool_] = (viral == 0) | (viral == np.bincount(copy_of))
    return [genes[index] for index in np.sort(first[agreed]).tolist()]


def _of_each_genome(genes: list[Gene], most: int) -> list[Gene]:
    """All genes, but of each genome at most so many of kind `OTHER`, order kept."""
    by_hash = sorted((_hash(gene.name), index) for index, gene in enumerate(genes))
    taken: Counter[str] = Counter()
    kept = []
    for _, index in by_hash:
        gene = genes[index]
        taken[gene.genome] += 1
        if gene.kind != OTHER or taken[gene.genome] <= most:
            kept.append(index)
    return [genes[index] for index in sorted(kept)]


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("ascii"))
