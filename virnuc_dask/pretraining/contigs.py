"""Contigs of known label: genes of one genome joined, and pieces of whole genomes.

Markers are genes; what a run meets are contigs of any length. These have 1 to 100 chunks' worth of
DNA, as many short as long ones on a logarithmic scale, as far as a genome's genes go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from virnuc_dask.pretraining.genes import GENOME, Gene

SHORTEST_NT, LONGEST_NT = 500, 50_000

# Contigs drawn of one genome: viruses are few. Of a whole genome one for so many bases.
_DRAWS_VIRUS, _DRAWS_OTHER = 10, 8
_NT_PER_DRAW = 25_000
_START = re.compile(r":c?(\d+)")


@dataclass(frozen=True, slots=True)
class Contig:
    """A piece of one ``genome``."""

    name: str
    dna: str
    kind: str
    genome: str


def draw_contigs(genes: Sequence[Gene], seed: int = 0) -> list[Contig]:
    """Draw contigs from every genome; those of one genome may overlap, but none is drawn twice.

    Genomes of fewer than `SHORTEST_NT` give none. Genes are joined end to end in the order of their
    numbers or places. The same genes give the same contigs.
    """
    rng = np.random.default_rng(seed)
    genomes: dict[tuple[str, str], list[Gene]] = {}
    for gene in genes:
        genomes.setdefault((gene.kind, gene.genome), []).append(gene)
    contigs: list[Contig] = []
    for (kind, genome), members in sorted(genomes.items()):
        members.sort(key=_position)
        if kind == GENOME:
            pieces = [(gene.dna, len(gene.dna) // _NT_PER_DRAW + 1) for gene in members]
        else:
            draws = _DRAWS_VIRUS if members[0].is_virus else _DRAWS_OTHER
            pieces = [("".join(gene.dna for gene in members), draws)]
        for dna, draws in pieces:
            for piece in dict.fromkeys(_piece(dna, rng) for _ in range(draws)):
                if len(piece) >= SHORTEST_NT:
                    contigs.append(Contig(f"{kind}_{len(contigs)}", piece, kind, genome))
    return contigs


def _piece(dna: str, rng: np.random.Generator) -> str:
    length = int(SHORTEST_NT * (LONGEST_NT / SHORTEST_NT) ** rng.random())
    start = int(rng.integers(max(len(dna) - length, 0) + 1))
    return dna[start : start + length]


def _position(gene: Gene) -> int:
    """A viral gene's number; where another gene begins in its accession."""
    found = _START.search(gene.name)
    return int(found[1]) if found else 0
