"""Validation contigs → a calibration.

The classes count the same whatever the number of their contigs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import (
    Calibration,
    Floats,
    Knots,
    interpolate,
    pool,
    probability,
)

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

FEWEST_CONTIGS = 20  # of either class
# Where a map may bend: at these shares of the values, both classes counting the same.
_BENDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
# Contigs of a class that may be where none was seen: one-sided 84 % limit of a Poisson mean of
# none. Gehrels, Astrophysical Journal 303 (1986), 336-346, equation 7 with S = 1.
UNSEEN = 1 + 0.75**0.5
_DIGITS = 6  # of what is stored
_APART = 1e-3  # least distance of the two ends of a map from what was seen
_FIRST_CORRELATION = 0.3
_MOST_TRIALS = 80


class Sample(NamedTuple):
    """Values with their class; the weights of a class sum to the number of its contigs."""

    values: Floats
    is_virus: Flags
    weight: Floats

    @property
    def class_sums(self) -> Floats:
        """Number of other contigs, number of viral ones."""
        return np.bincount(self.is_virus, self.weight, minlength=2).astype(np.float64)

    @property
    def balanced(self) -> Floats:
        """Weights under which either class sums to one half."""
        return self.weight / self.class_sums[self.is_virus.astype(np.int64)] / 2


def fit(contigs: Sequence[Floats], labels: Flags) -> Calibration:
    """Make a calibration from validation contigs, all cut to one chunk length.

    There should be contigs of 1 to 100 chunks, of each class `FEWEST_CONTIGS` at least and as many
    as can be had: the fewer false contigs could have been seen, the less evidence is claimed.
    Beginnings of long ones, of 1, 2, 4, … chunks, are used as well, the pieces of a contig sharing
    its weight.

    Parameters
    ----------
    contigs
        For each contig the `margins` of its scored chunks, in order; one at least.
    labels
        Whether they are viral.
    """
    chunk_knots = rising(_chunks(contigs, labels))
    totals, counts, contig_of = _pieces([interpolate(values, chunk_knots) for values in contigs])
    pieces = Sample(totals, labels[contig_of], 1 / np.bincount(contig_of)[contig_of])
    correlation, offset = _pooling(pieces, counts)
    pooled = pieces._replace(values=pool(totals, counts, correlation, offset))
    told = f"{int(labels.sum())} viral and {int((~labels).sum())} other validation contigs"
    return Calibration(chunk_knots, correlation, offset, rising(pooled), told)


def rising(sample: Sample) -> Knots:
    """A map from values to evidence that never falls, straight between `_BENDS`.

    Isotonic regression (Zadrozny & Elkan, KDD 2002, 694-699), with `UNSEEN` contigs of either class
    at both ends: so few false contigs could have been missed, and no more is claimed.
    """
    from sklearn.isotonic import IsotonicRegression

    values = sample.values
    ends = [values.min() - _APART, values.max() + _APART]
    value = np.concatenate([values, ends, ends])
    label = np.concatenate([sample.is_virus, [True, True, False, False]])
    unseen = UNSEEN / sample.class_sums / 2
    weight = np.concatenate([sample.balanced, unseen[[1, 1, 0, 0]]])
    share = IsotonicRegression().fit(value, label, sample_weight=weight).predict(value)
    order = np.argsort(values, kind="stable")
    place = np.searchsorted(np.cumsum(sample.balanced[order]), _BENDS).clip(max=len(order) - 1)
    at = np.unique(np.concatenate([values[order][place], ends]).round(_DIGITS))
    near = np.digitize(value, (at[1:] + at[:-1]) / 2)
    mean = np.bincount(near, weight * share) / np.bincount(near, weight)
    evidence = (np.log(mean) - np.log1p(-mean)).round(_DIGITS)
    return tuple(zip(at.tolist(), evidence.tolist(), strict=True))


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
        np.unique([*(2**power for power in range(len(values).bit_length())), len(values)])
        for values in evidence
    ]
    sums = [np.cumsum(values)[of - 1] for values, of in zip(evidence, sizes, strict=True)]
    contig_of = np.repeat(np.arange(len(sizes)), [len(of) for of in sizes])
    return np.concatenate(sums), np.concatenate(sizes), contig_of


def _pooling(pieces: Sample, counts: Counts) -> tuple[float, float]:
    """The correlation and the offset under which pooled evidence tells the classes apart best."""
    from scipy.optimize import minimize

    def parameters(x: Floats) -> tuple[float, float]:
        return round(float(probability(x[:1])[0]), _DIGITS), round(float(x[1]), _DIGITS)

    def loss(x: Floats) -> float:
        sample = pieces._replace(values=pool(pieces.values, counts, *parameters(x)))
        evidence = interpolate(sample.values, rising(sample))
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
