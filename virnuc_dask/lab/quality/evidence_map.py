"""Values and labels → a rising map from values to evidence, no bolder than the data allow.

The classes count the same whatever the number of their contigs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Floats, Knots, probability

Flags = NDArray[np.bool_]

# Where a map may bend: at these shares of the values, both classes counting the same.
_BENDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995)
_STIFFNESS = 2.0  # nats that a bend costs by which the slope changes by itself
_SMALLEST_STEP = 1e-4  # between two bends, and of a slope
_CELLS = 1_000
DIGITS = 6  # of what is stored


@dataclass(frozen=True, slots=True)
class Sample:
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

    def condensed(self) -> Self:
        """Means of neighbours, `_CELLS` a class: as good for a map with few bends."""
        order = np.lexsort((self.values, self.is_virus))
        values, is_virus, weight = self.values[order], self.is_virus[order], self.weight[order]
        number = (np.cumsum(self.balanced[order]) * 2 * _CELLS).astype(np.int64)
        change = np.diff(number, prepend=-1) + np.diff(is_virus, prepend=False) != 0
        cell = np.cumsum(change) - 1
        sums = np.bincount(cell, weight).astype(np.float64)
        return type(self)(np.bincount(cell, weight * values) / sums, is_virus[change], sums)

    def mirrored(self) -> Self:
        """The same with viruses and others exchanged."""
        return type(self)(-self.values, ~self.is_virus, self.weight)

    def beyond(self, at: Floats, *, virus: bool) -> Floats:
        """Number of a class's contigs with a value of ``at`` or above."""
        wanted = self.is_virus == virus
        order = np.argsort(self.values[wanted], kind="stable")
        below = np.concatenate([[0.0], np.cumsum(self.weight[wanted][order])])
        beyond: Floats = below[-1] - below[np.searchsorted(self.values[wanted][order], at)]
        return np.maximum(beyond, 0.0)


def limited(sample: Sample, *, cautious: bool = False) -> tuple[Floats, Floats]:
    """`bent_logistic`, claiming no more than the contigs support.

    ``cautious``: and less where few others were seen, as if they were at their upper limit. A
    false discovery costs more than a missed one where viruses are rare.
    """
    at, evidence = bent_logistic(sample)
    if cautious:
        seen = sample.beyond(at, virus=False)
        evidence = evidence - np.log(upper_limit(seen) / (seen + 1))
        evidence = np.minimum.accumulate(evidence[::-1])[::-1]
    least = -_most_evidence(sample.mirrored(), -at)
    return at, np.clip(evidence, least, _most_evidence(sample, at))


def bent_logistic(sample: Sample) -> tuple[Floats, Floats]:
    """A logistic regression whose slope may change at `_BENDS` but never be negative.

    Straight between the bends and constant beyond them; a bend costs the more, the fewer contigs
    there are. Returns where the bends are, and the evidence there.
    """
    from scipy.optimize import minimize
    from sklearn.linear_model import LogisticRegression

    at, sample = _bends(sample), sample.condensed()
    widths = np.diff(at)
    # What contigs of both classes are worth together, when the classes weigh the same.
    weight = sample.balanced * 4 / (1 / sample.class_sums).sum()
    inside = np.clip(sample.values, at[0], at[-1])[:, None]
    straight = LogisticRegression(C=1e6).fit(inside, sample.is_virus, sample_weight=weight)
    slope = max(float(straight.coef_[0, 0]), _SMALLEST_STEP)
    steps = np.clip(sample.values[:, None] - at[:-1], 0, widths) * slope
    sign = np.where(sample.is_virus, 1.0, -1.0)

    def loss(x: Floats) -> tuple[float, Floats]:
        margin = (x[0] + steps @ x[1:]) * sign
        bends = np.diff(x[1:])
        pull = -sign * weight * probability(-margin)
        gradient = np.concatenate([[pull.sum()], pull @ steps])
        gradient[2:] += 2 * _STIFFNESS * bends
        gradient[1:-1] -= 2 * _STIFFNESS * bends
        total = (weight * np.logaddexp(0, -margin)).sum() + _STIFFNESS * (bends**2).sum()
        return float(total), gradient

    start = np.array([float(straight.intercept_[0]) + slope * at[0], *np.ones(len(widths))])
    bounds = [(None, None), *[(0, None)] * len(widths)]
    x = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return at, x[0] + np.concatenate([[0.0], np.cumsum(x[1:] * widths * slope)])


def _bends(sample: Sample) -> Floats:
    """The values at `_BENDS`; two at least."""
    order = np.argsort(sample.values, kind="stable")
    place = np.searchsorted(np.cumsum(sample.balanced[order]), _BENDS)
    at = sample.values[order][np.minimum(place, len(order) - 1)]
    at = at[np.diff(at, prepend=-np.inf) > _SMALLEST_STEP]
    return at if len(at) > 1 else at[0] + np.array([0.0, 1.0])


def _most_evidence(sample: Sample, at: Floats) -> Floats:
    """The most evidence for a virus that the contigs support, for values of ``at``.

    Where evidence rises with the value, it is at most that of all values above, which is counted:
    the share of the viral contigs above over that of the others, theirs at its upper limit.
    """
    thresholds = np.unique(sample.values)
    others, viral = sample.class_sums
    above = np.maximum(sample.beyond(thresholds, virus=True), _SMALLEST_STEP) / viral
    false = upper_limit(sample.beyond(thresholds, virus=False)) / others
    supported = np.maximum.accumulate(np.maximum(np.log(above) - np.log(false), 0.0))
    highest_below = np.searchsorted(thresholds, at, side="right") - 1
    return supported[np.maximum(highest_below, 0)]


def upper_limit(count: Floats) -> Floats:
    """Upper limit of the mean of a Poisson count, one-sided 84 %.

    Gehrels, Astrophysical Journal 303 (1986), 336-346, equation 7 with S = 1.
    """
    limit: Floats = count + 1 + np.sqrt(count + 0.75)
    return limit


def knots(at: Floats, evidence: Floats) -> Knots:
    """A map as a calibration stores it."""
    return tuple(zip(at.round(DIGITS).tolist(), evidence.round(DIGITS).tolist(), strict=True))
