"""Scores → evidence: how much more often viruses score so than others do.

Evidence is a natural-log likelihood ratio, log P(score | virus) / P(score | others): 0 says
nothing, above 0 speaks for a virus. It depends on one record alone; what it means among the
records of a sample follows from their prevalence.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from virnuc_dask.checks import checked

Floats = NDArray[np.float64]

# Scores are float32: nearer to 0 and 1 their logit is rounding.
_NEAREST = 1e-6
_PSEUDO_COUNT = 1.0  # of viruses and of others, when the prevalence is estimated
_MOST_STEPS, _SMALLEST_STEP, _DECIMALS = 10_000, 1e-9, 2


def _ascending(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    for (one, height), (next_one, next_height) in pairwise(knots):
        if next_one <= one or next_height < height:
            raise ValueError(f"must ascend, and never fall, as from {height} to {next_height}")
    return knots


_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Knots = Annotated[
    tuple[tuple[_Number, _Number], ...], Field(min_length=2), AfterValidator(_ascending)
]


@checked
class Calibration:
    """What a model set's scores are worth, for one chunk length.

    A chunk's evidence is read from ``chunk_knots``, (margin, evidence) pairs. A record's is read
    from ``contig_knots``, (pooled evidence, evidence) pairs: see `pool`. Between knots
    both are straight, beyond the outermost constant, so that no score claims more than the
    sequences could show that the calibration was made from.
    """

    chunk_knots: Knots
    # Of the evidence of two chunks of one record.
    correlation: Annotated[float, Field(ge=0, le=1)]
    offset: _Number  # added to a record's mean chunk evidence
    contig_knots: Knots
    method: str

    def chunk_evidence(self, score_virus: NDArray[Any], score_others: NDArray[Any]) -> Floats:
        """Evidence of chunks, from their two scores."""
        return interpolate(margins(score_virus, score_others), self.chunk_knots)

    def contig_evidence(self, total: Floats, chunks: NDArray[np.int64]) -> Floats:
        """Evidence of records, from the sums of their chunks' and the numbers of scored chunks.

        NaN where no chunk was scored.
        """
        pooled = pool(total, np.maximum(chunks, 1), self.correlation, self.offset)
        evidence: Floats = np.where(chunks > 0, interpolate(pooled, self.contig_knots), np.nan)
        return evidence


def margins(score_virus: NDArray[Any], score_others: NDArray[Any]) -> Floats:
    """How far the score of virus exceeds that of others, as a difference of logits."""
    return _logit(score_virus) - _logit(score_others)


def interpolate(values: Floats, knots: Knots) -> Floats:
    """Straight between knots, constant beyond them."""
    at, height = np.array(knots, np.float64).T
    found: Floats = np.interp(values, at, height)
    return found


def pool(total: Floats, chunks: NDArray[np.int64], correlation: float, offset: float) -> Floats:
    """What all chunks of a record say together.

    ``n / (1 + correlation (n - 1))`` is how many independent chunks n correlated ones are worth
    (the design effect of cluster samples; Kish, Survey Sampling, 1965, section 5.4). Were chunk
    evidence normal in both classes, and equally spread, the record's evidence would be exactly a
    straight line in that number times its mean evidence, to which ``offset`` is added.

    ``total`` is the sum of the chunk evidence, ``chunks`` the number of scored chunks, 1 or more,
    both by record.
    """
    worth = chunks / (1 + correlation * (chunks - 1))
    return worth * (total / chunks + offset)


def probability(evidence: Floats) -> Floats:
    """Probability of virus were viruses and others equally frequent; NaN stays NaN.

    It depends on the record alone, not on the other records of its sample.
    """
    # The same as 1 / (1 + exp(-evidence)), which would overflow.
    return 0.5 + 0.5 * np.tanh(0.5 * evidence)


def posterior(evidence: Floats, prevalence: float) -> Floats:
    """Probability of virus where the share ``prevalence`` of the records is viral (Bayes)."""
    return probability(evidence + np.log(prevalence) - np.log1p(-prevalence))


def estimate_prevalence(evidence: Floats) -> float:
    """Share of viruses among the records of a sample, from their evidence; NaN is left out."""
    return prevalence_of(*rounded(evidence[~np.isnan(evidence)]))


def rounded(evidence: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Evidence as `prevalence_of` takes it: its values, ascending, and how often each is there."""
    return np.unique(np.round(evidence, _DECIMALS), return_counts=True)


def prevalence_of(values: Floats, counts: NDArray[np.int64]) -> float:
    """Share of viruses among the records of a sample, from how many have which evidence.

    The maximum of the likelihood by expectation and maximisation: Saerens, Latinne & Decaestecker,
    Neural Computation 14 (2002), 21-41, for two classes and a classifier trained on equal ones.
    One virus and one other are added, so that it is never 0 or 1; without records it is one half.
    Values are rounded, so that a step costs the same for millions of records.
    """
    prevalence = 0.5
    for _ in range(_MOST_STEPS):
        viral = float((posterior(values, prevalence) * counts).sum()) + _PSEUDO_COUNT
        step = viral / (counts.sum() + 2 * _PSEUDO_COUNT) - prevalence
        prevalence += step
        if abs(step) < _SMALLEST_STEP:
            break
    return prevalence


def q_values(evidence: Floats, prevalence: float) -> Floats:
    """For each record the expected share of others among the records of no less evidence.

    The mean of 1 - `posterior` over them (Newton, Noueiry, Sarkar & Ahlquist, Biostatistics 5
    (2004), 155-176): to call all records of a q-value of at most x is to expect a false discovery
    rate of at most x. Records of equal evidence have equal q-values; NaN stays NaN.
    """
    scored = ~np.isnan(evidence)
    values, place, counts = np.unique(-evidence[scored], return_inverse=True, return_counts=True)
    others = (1 - posterior(-values, prevalence)) * counts
    result = np.full(len(evidence), np.nan)
    result[scored] = (np.cumsum(others) / np.cumsum(counts))[place]
    return result


def _logit(score: NDArray[Any]) -> Floats:
    clipped = np.clip(score.astype(np.float64), _NEAREST, 1 - _NEAREST)
    return np.log(clipped) - np.log1p(-clipped)
