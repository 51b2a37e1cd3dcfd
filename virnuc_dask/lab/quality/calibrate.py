"""Validation contigs → a calibration.

The classes count the same whatever the number of their contigs.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    interpolate,
    pool,
    probability,
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
