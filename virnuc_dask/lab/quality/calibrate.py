"""Validation contigs → a calibration, and how well it holds on test contigs.

The classes count the same whatever the number of their contigs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError
from virnuc_dask.lab.quality.evidence_map import (
    DIGITS,
    Flags,
    Sample,
    bent_logistic,
    knots,
    limited,
)
from virnuc_dask.modelsets.calibration import (
    Calibration,
    Floats,
    estimate_prevalence,
    interpolate,
    pool,
    probability,
    q_values,
)

Counts = NDArray[np.int64]

FEWEST_CONTIGS = 20  # of either class

_FIRST_CORRELATION = 0.3
_MOST_TRIALS = 80


def fit(contigs: Sequence[Floats], is_virus: Sequence[bool] | Flags) -> Calibration:
    """Make a calibration from validation contigs, all cut to one chunk length.

    There should be contigs of 1 to 100 chunks, as many as can be had: the fewer false contigs
    could have been seen, the less evidence is claimed. Long ones stand for short ones too: their
    beginnings of 1, 2, 4, … chunks are used as well, the pieces of a contig sharing its weight.
    The same contigs always give the same calibration.

    Parameters
    ----------
    contigs
        For each contig the `margins` of its scored chunks, in order; contigs without are left out.
    is_virus
        Their labels.

    Raises
    ------
    BadInputError
        If either class has fewer than `FEWEST_CONTIGS` contigs with a scored chunk, or a margin
        is not a finite number.
    """
    labels = np.asarray(is_virus, np.bool_)
    if len(labels) != len(contigs):
        raise BadInputError(f"{len(contigs)} contigs to calibrate with, but {len(labels)} labels.")
    kept = [index for index, of_chunks in enumerate(contigs) if len(of_chunks)]
    contigs, labels = [np.asarray(contigs[index], np.float64) for index in kept], labels[kept]
    _check(contigs, labels)
    chunk_knots = knots(*limited(_chunks(contigs, labels)))
    totals, counts, contig_of = _pieces([interpolate(values, chunk_knots) for values in contigs])
    pieces = Sample(totals, labels[contig_of], 1 / np.bincount(contig_of)[contig_of])
    correlation, offset = _pooling(pieces, counts)
    pooled = _pooled(pieces, counts, correlation, offset)
    return Calibration(
        chunk_knots,
        correlation,
        offset,
        knots(*limited(pooled, cautious=True)),
        f"{int(labels.sum())} viral and {int((~labels).sum())} other validation contigs",
    )


def _check(contigs: Sequence[Floats], is_virus: Flags) -> None:
    for name, count in (("viral", is_virus.sum()), ("other", (~is_virus).sum())):
        if count < FEWEST_CONTIGS:
            raise BadInputError(
                f"{count} {name} validation contigs with a scored chunk are too few to calibrate "
                f"with: {FEWEST_CONTIGS} are needed of either class, hundreds are better."
            )
    if not all(np.isfinite(values).all() for values in contigs):
        raise BadInputError("a margin to calibrate with is not a finite number.")


def _chunks(contigs: Sequence[Floats], is_virus: Flags) -> Sample:
    """All chunks; those of a class weigh the same.

    They are worth no more than the contigs of their class, for one contig's chunks are alike.
    """
    sizes = np.array([len(values) for values in contigs])
    share = np.bincount(is_virus, minlength=2) / np.bincount(is_virus, sizes, minlength=2)
    label = np.repeat(is_virus, sizes)
    return Sample(np.concatenate(contigs), label, share[label.astype(np.int64)])


def _pieces(evidence: Sequence[Floats]) -> tuple[Floats, Counts, Counts]:
    """Contigs and their beginnings: summed evidence, number of chunks, index of the contig."""
    sizes = [
        sorted({*(2**power for power in range(len(values).bit_length())), len(values)})
        for values in evidence
    ]
    sums = [np.cumsum(values)[np.array(of) - 1] for values, of in zip(evidence, sizes, strict=True)]
    contig_of = np.repeat(np.arange(len(sizes)), [len(of) for of in sizes])
    return np.concatenate(sums), np.concatenate([np.array(of) for of in sizes]), contig_of


def _pooled(pieces: Sample, counts: Counts, correlation: float, offset: float) -> Sample:
    values = pool(pieces.values, counts, correlation, offset)
    return Sample(values, pieces.is_virus, pieces.weight)


def _pooling(pieces: Sample, counts: Counts) -> tuple[float, float]:
    """The correlation and the offset under which pooled evidence tells the classes apart best."""
    from scipy.optimize import minimize

    def parameters(x: Floats) -> tuple[float, float]:
        return round(float(probability(x[:1])[0]), DIGITS), round(float(x[1]), DIGITS)

    def loss(x: Floats) -> float:
        sample = _pooled(pieces, counts, *parameters(x)).condensed()
        evidence = interpolate(sample.values, knots(*bent_logistic(sample)))
        wrong = np.where(sample.is_virus, -evidence, evidence)
        return float((np.logaddexp(0, wrong) * sample.balanced).sum())

    first = np.log(_FIRST_CORRELATION) - np.log1p(-_FIRST_CORRELATION)
    corners = np.array([[first, 0.0], [first - 0.6, 0.0], [first, 0.3]])
    options = {
        "maxfev": _MOST_TRIALS,
        "xatol": 0.01,
        "fatol": 1e-6,
        "initial_simplex": corners,
    }
    return parameters(minimize(loss, corners[0], method="Nelder-Mead", options=options).x)


def expected_calibration_error(probability: Floats, is_virus: Flags, bins: int = 15) -> float:
    """Mean distance of probabilities from the share of viruses, over ``bins`` of equal width.

    Naeini, Cooper & Hauskrecht, AAAI 2015, 2901-2907. The classes weigh the same, because that is
    what the probabilities are for.
    """
    weight = Sample(probability, is_virus, np.ones(len(probability))).balanced
    bin_of = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    excess = np.bincount(bin_of, weight * (probability - is_virus), bins)
    return float(np.abs(excess).sum())


@dataclass(frozen=True, slots=True)
class Discoveries:
    """Means over simulated samples, of the calls at one nominal rate.

    ``fdr`` is the share of others among the calls (0 without a call), ``recall`` the share of the
    viruses that are called, ``prevalence`` what is estimated.
    """

    fdr: float
    recall: float
    prevalence: float


def simulate(
    evidence: Floats,
    is_virus: Flags,
    prevalence: float,
    nominal: float,
    rng: np.random.Generator,
    records: int = 1000,
    samples: int = 200,
) -> Discoveries:
    """Call samples drawn from test contigs, with replacement, as a run calls its records.

    The prevalence of each sample is estimated from it; records of a q-value of at most
    ``nominal`` are called.

    Parameters
    ----------
    evidence
        Of test contigs, none NaN.
    prevalence
        Chance that a drawn record is viral.
    """
    virus, others = evidence[is_virus], evidence[~is_virus]
    found = np.zeros((samples, 3))
    for row in found:
        viral = int(rng.binomial(records, prevalence))
        drawn = np.concatenate([rng.choice(virus, viral), rng.choice(others, records - viral)])
        estimated = estimate_prevalence(drawn)
        called = q_values(drawn, estimated) <= nominal
        right, wrong = int(called[:viral].sum()), int(called[viral:].sum())
        row[:] = wrong / max(1, right + wrong), right / max(1, viral), estimated
    return Discoveries(*found.mean(axis=0).tolist())


def realised_fdr(
    evidence: Floats,
    is_virus: Flags,
    prevalence: float,
    nominal: float,
    rng: np.random.Generator,
) -> float:
    """Mean share of others among the calls of a q-value of at most ``nominal``: see `simulate`."""
    return simulate(evidence, is_virus, prevalence, nominal, rng).fdr
