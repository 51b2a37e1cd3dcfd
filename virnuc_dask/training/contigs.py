"""Pseudo-contigs of marker genes, and where to divide viral contigs from others.

A contig's score is a mean over its chunks, so it varies far less than theirs: the threshold that
balances the errors on chunks is not the one for contigs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.training.figures import Floats, equal_error_threshold, means
from virnuc_dask.training.genes import OTHER, VIRUS, Gene, neighbourhood_of

FEWEST_GENES, MOST_GENES = 5, 30

# Runs of genes drawn from each source: there are ten times as many accessions as viral sources.
_DRAWS = {VIRUS: 4, OTHER: 1}
_START = re.compile(r":c?(\d+)")

Score = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True, slots=True)
class Contig:
    """Genes of one ``source`` joined end to end."""

    source: str
    dna: str
    is_virus: bool


def pseudo_contigs(genes: Sequence[Gene]) -> list[Contig]:
    """Runs of `FEWEST_GENES` to `MOST_GENES` genes that follow each other in their source.

    The source of viral genes is their neighbourhood of numbers, that of others their accession;
    transcripts have none and are left out. So are sources of fewer genes. The runs drawn from one
    viral source may overlap.
    """
    rng = np.random.default_rng(0)
    sources: dict[str, list[Gene]] = {}
    for gene in genes:
        if gene.kind in _DRAWS:
            sources.setdefault(_source_of(gene), []).append(gene)
    contigs = []
    for source, members in sorted(sources.items()):
        if len(members) < FEWEST_GENES:
            continue
        members.sort(key=_position)
        for _ in range(_DRAWS[members[0].kind]):
            count = int(rng.integers(FEWEST_GENES, min(MOST_GENES, len(members)) + 1))
            start = int(rng.integers(len(members) - count + 1))
            dna = "".join(gene.dna for gene in members[start : start + count])
            contigs.append(Contig(source, dna, members[0].is_virus))
    return contigs


def _source_of(gene: Gene) -> str:
    return neighbourhood_of(gene.name) if gene.is_virus else gene.name.split("|")[3]


def _position(gene: Gene) -> int:
    """A viral gene's number; where another gene begins in its accession."""
    found = _START.search(gene.name)
    return int(found[1]) if found else 0


def contig_scores(score: Score, contigs: Sequence[str], chunk_length: int) -> tuple[Floats, Floats]:
    """Contigs cut by the run's own rule: their mean chunk scores, and all chunk scores."""
    spans = [list(chunk_spans(len(dna), chunk_length)) for dna in contigs]
    chunks = [dna[a:b] for dna, of in zip(contigs, spans, strict=True) for a, b in of]
    contig_of: NDArray[np.int64] = np.repeat(np.arange(len(contigs)), [len(of) for of in spans])
    scores = score(chunks)
    return means(scores, contig_of, len(contigs)), scores


def calibrate(score: Score, genes: Sequence[Gene], chunk_lengths: Sequence[int]) -> Calibration:
    """The threshold of equal error rates on the genes' pseudo-contigs, all lengths together.

    Raises
    ------
    BadInputError
        If the genes make no viral contig or no other.
    """
    contigs = pseudo_contigs(genes)
    by_length = [contig_scores(score, [c.dna for c in contigs], n)[0] for n in chunk_lengths]
    scores = np.concatenate(by_length)
    is_virus = np.array([contig.is_virus for contig in contigs] * len(chunk_lengths), np.bool_)
    scores, is_virus = scores[~np.isnan(scores)], is_virus[~np.isnan(scores)]
    viral = sum(contig.is_virus for contig in contigs)
    if len(np.unique(is_virus)) < 2:
        raise BadInputError("too few validation genes of one source to calibrate contig calls.")
    return Calibration(
        round(equal_error_threshold(scores, is_virus), 4),
        f"equal error rates on {viral} viral and {len(contigs) - viral} other validation "
        "pseudo-contigs",
    )
