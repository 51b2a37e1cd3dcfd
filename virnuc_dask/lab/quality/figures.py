"""What is measured: figures over scores and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


FALSE_POSITIVES = (0.01, 0.05)  # rates at which the recall is reported
RESAMPLES, SEED = 200, 0  # of the bootstrap
FEWEST_RECORDS = 10  # of each class, for a bootstrap interval
_CURVE_POINTS = 300


def auroc(scores: Floats, is_virus: Flags) -> float:
    """Chance that a virus scores above another sequence, ties counting half.

    Counted, not integrated, and so exact: rankings with as many pairs in order are equal, and a
    training can choose between them by something else.
    """
    values, place = np.unique(scores, return_inverse=True)
    counts = (np.bincount(place[side], minlength=len(values)) for side in (is_virus, ~is_virus))
    return _share_in_order(*counts)


def means(scores: Floats, group_of: NDArray[np.int64], groups: int) -> Floats:
    """Mean of the scores that are not NaN, by group; NaN for a group without one."""
    scored = ~np.isnan(scores)
    counts = np.bincount(group_of[scored], minlength=groups)
    sums = np.bincount(group_of[scored], weights=scores[scored], minlength=groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def ranking(scores: Floats, is_virus: Flags) -> dict[str, float | None]:
    """AUROC, average precision, and the recall at few false positives, of scores without NaN.

    None each where one class is missing. The recall at 1 % is the highest that any threshold has
    while it calls at most 1 % of the others; ties are called together.
    """
    names = (
        "auroc",
        "average_precision",
        *(f"recall_at_fpr_{rate}" for rate in FALSE_POSITIVES),
    )
    if not _both_classes(is_virus):
        return dict.fromkeys(names)
    from sklearn import metrics

    false, recall, _ = metrics.roc_curve(is_virus, scores, drop_intermediate=False)
    values = [
        metrics.auc(false, recall),
        metrics.average_precision_score(is_virus, scores),
        *(recall[false <= rate].max() for rate in FALSE_POSITIVES),
    ]
    return dict(zip(names, map(_rounded, values), strict=True))


def calls_quality(called: Flags, is_virus: Flags) -> dict[str, float | None]:
    """Recall, precision, false positive rate, F1 and Matthews' coefficient of calls.

    None where a figure is not defined: recall without a virus, precision without a call, F1 and
    Matthews' coefficient with one class only.
    """
    from sklearn import metrics

    both = _both_classes(is_virus)
    return {
        "recall": _share(called[is_virus]),
        "precision": _share(is_virus[called]),
        "false_positive_rate": _share(called[~is_virus]),
        "f1": _rounded(metrics.f1_score(is_virus, called)) if both else None,
        "mcc": _rounded(metrics.matthews_corrcoef(is_virus, called)) if both else None,
    }


def roc_points(scores: Floats, is_virus: Flags) -> list[list[float]]:
    """False positive rates and recalls of the ROC curve, thinned least where the former are low."""
    if not _both_classes(is_virus):
        return [[], []]
    from sklearn import metrics

    false, recall, _ = metrics.roc_curve(is_virus, scores)
    low = np.searchsorted(false, np.geomspace(1e-4, 1, _CURVE_POINTS // 2))
    return _thinned(false, recall, low)


def precision_recall_points(scores: Floats, is_virus: Flags) -> list[list[float]]:
    """Recalls, ascending, and precisions of the precision-recall curve, thinned."""
    if not _both_classes(is_virus):
        return [[], []]
    from sklearn import metrics

    precision, recall, _ = metrics.precision_recall_curve(is_virus, scores)
    recall, precision = recall[::-1], precision[::-1]
    return _thinned(recall, precision, np.searchsorted(recall, np.linspace(0, 1, _CURVE_POINTS)))


def _thinned(x: Floats, y: Floats, picked: NDArray[np.int64]) -> list[list[float]]:
    """Some points of a curve: those picked, some at even steps, the first and the last.

    All of a curve that has few.
    """
    steps = len(x) if len(x) <= 2 * _CURVE_POINTS else _CURVE_POINTS // 2
    even = np.linspace(0, len(x) - 1, steps).astype(np.int64)
    kept = np.unique(np.concatenate([even, picked[picked < len(x)]]))
    return [np.round(x[kept], 5).tolist(), np.round(y[kept], 5).tolist()]


def reliability_bins(
    probability: Floats, is_virus: Flags, bins: int = 15
) -> list[dict[str, float | int]]:
    """What is said and what is so, in ``bins`` of equal width; empty ones are left out.

    Both classes weigh the same in all, since a probability is that of classes equally frequent.
    """
    of_class = np.bincount(is_virus.astype(np.int64), minlength=2)
    weight = 1 / of_class[is_virus.astype(np.int64)]
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    return [
        {
            "n": int(inside.sum()),
            "mean_probability": _rounded(np.average(probability[inside], weights=weight[inside])),
            "share_virus": _rounded(np.average(is_virus[inside], weights=weight[inside])),
        }
        for inside in (place == number for number in range(bins))
        if inside.any()
    ]


class RankedScores:
    """Scores that are sorted once, so that the AUROC of many resamples is quick.

    Parameters
    ----------
    scores
        Without NaN.
    record
        The record that each belongs to: resamples draw records, since the chunks of one record
        are alike.
    """

    def __init__(self, scores: Floats, is_virus: Flags, record: NDArray[np.int64]) -> None:
        values, place = np.unique(scores, return_inverse=True)
        self._steps = len(values)
        self._sides = [(place[side], record[side]) for side in (is_virus, ~is_virus)]

    def auroc(self, drawn: NDArray[np.int64]) -> float:
        """The AUROC when record i counts ``drawn[i]`` times; NaN if a class is not drawn."""
        counts = (
            np.bincount(place, weights=drawn[record], minlength=self._steps)
            for place, record in self._sides
        )
        return _share_in_order(*counts)


def resampled_aurocs(
    ranked: Sequence[RankedScores], is_virus: Flags, among: Flags
) -> Floats | None:
    """AUROCs of `RESAMPLES` bootstrap resamples of the records, for each of ``ranked``.

    Each resample draws as many viral and as many other records as there are, with replacement; all
    of ``ranked`` see the same draws, so that their differences are paired. Shape (len(ranked),
    RESAMPLES). None with fewer than `FEWEST_RECORDS` records of a class: an interval from so few
    would be too narrow.

    Parameters
    ----------
    is_virus
        The label of every record.
    among
        The records that are drawn from.
    """
    rng = np.random.default_rng(SEED)
    sides = [np.flatnonzero(among & is_virus), np.flatnonzero(among & ~is_virus)]
    if min(map(len, sides)) < FEWEST_RECORDS:
        return None
    found = np.empty((len(ranked), RESAMPLES))
    for resample in range(RESAMPLES):
        drawn = np.zeros(len(is_virus), np.int64)
        for side in sides:
            drawn += np.bincount(rng.choice(side, len(side)), minlength=len(is_virus))
        found[:, resample] = [scores.auroc(drawn) for scores in ranked]
    return found


def interval(values: Floats) -> list[float] | None:
    """The middle 95 % of resampled values; None if none of them is a number."""
    values = values[~np.isnan(values)]
    return np.round(np.percentile(values, [2.5, 97.5]), 6).tolist() if len(values) else None


def _share_in_order(viral: NDArray[Any], others: NDArray[Any]) -> float:
    """Share of the pairs whose virus scores higher, ties counting half; NaN without a pair.

    Parameters
    ----------
    viral, others
        How often each score is a virus's and another's, by ascending score.
    """
    pairs = viral.sum() * others.sum()
    below = np.cumsum(others) - others
    return float((viral * (below + others / 2)).sum() / pairs) if pairs else np.nan


def _both_classes(is_virus: Flags) -> bool:
    return bool(is_virus.any() and not is_virus.all())


def _share(flags: Flags) -> float | None:
    return _rounded(flags.mean()) if len(flags) else None


def _rounded(value: float) -> float:
    return round(float(value), 6)
