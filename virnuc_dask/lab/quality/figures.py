"""What is measured: figures over scores and labels, by scikit-learn where it has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import estimate_prevalence, q_values

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]

RESAMPLES, SEED = 200, 0  # of the bootstrap
FEWEST_RECORDS = 10  # of each class, for a bootstrap interval
_CURVE_POINTS = 600
_BINS = 15


class Figure(NamedTuple):
    """A figure of how well viruses are told from others."""

    key: str  # in files
    name: str  # on a page
    short: str = ""  # in a terminal; without: not shown there
    is_share: bool = False  # shown as a percentage


FALSE_POSITIVES = (0.01, 0.05)  # rates at which the recall is reported
FIGURES = (
    Figure("auroc", "AUROC", "AUROC"),
    Figure("average_precision", "average precision", "avg.prec."),
    Figure("f1", "F1", "F1"),
    Figure("mcc", "MCC", "MCC"),
    Figure("recall_at_fpr_0.01", "recall at 1\xa0%\xa0FP", "rec@1%FP", is_share=True),
    Figure("recall_at_fpr_0.05", "recall at 5\xa0%\xa0FP", "rec@5%FP", is_share=True),
    Figure("recall", "recall", is_share=True),
    Figure("precision", "precision", is_share=True),
    Figure("false_positive_rate", "false positives", is_share=True),
)


def quality(scores: Floats, called: Flags, is_virus: Flags) -> dict[str, float | None]:
    """All `FIGURES` of scores without NaN, and of calls; None where one is not defined.

    The recall at 1 % is the highest that any threshold has while it calls at most 1 % of the
    others; ties are called together.
    """
    from sklearn import metrics

    found = {
        "recall": _mean(called[is_virus]),
        "precision": _mean(is_virus[called]),
        "false_positive_rate": _mean(called[~is_virus]),
    }
    if _are_both(is_virus):
        false, recall, _ = metrics.roc_curve(is_virus, scores, drop_intermediate=False)
        found |= {f"recall_at_fpr_{rate}": recall[false <= rate].max() for rate in FALSE_POSITIVES}
        found["auroc"] = metrics.auc(false, recall)
        found["average_precision"] = metrics.average_precision_score(is_virus, scores)
        found["f1"] = metrics.f1_score(is_virus, called)
        found["mcc"] = metrics.matthews_corrcoef(is_virus, called)
    return {figure.key: rounded(found.get(figure.key)) for figure in FIGURES}


def curves(scores: Floats, is_virus: Flags) -> dict[str, list[list[float]]]:
    """Points of the ROC curve and of the precision-recall curve, thinned; x, then y, ascending."""
    if not _are_both(is_virus):
        return {"roc": [[], []], "precision_recall": [[], []]}
    from sklearn import metrics

    false, found, _ = metrics.roc_curve(is_virus, scores)
    precision, recall, _ = metrics.precision_recall_curve(is_virus, scores)
    return {
        "roc": _thinned(false, found),
        "precision_recall": _thinned(recall[::-1], precision[::-1]),
    }


def _thinned(x: Floats, y: Floats) -> list[list[float]]:
    """Points at even steps, both ends among them; all of a curve of few."""
    kept = np.unique(np.linspace(0, len(x) - 1, _CURVE_POINTS).astype(np.int64))
    return [x[kept].round(5).tolist(), y[kept].round(5).tolist()]


def auroc(scores: Floats, is_virus: Flags) -> float:
    """Chance that a virus scores above another sequence, ties counting half; NaN of one class."""
    return ranked(scores, is_virus)(np.ones(len(scores), np.int64))


def ranked(scores: Floats, is_virus: Flags) -> Callable[[Counts], float]:
    """How often each score counts → the AUROC of scores that are sorted only once.

    Counted, not integrated, and so exact: rankings with as many pairs in order are equal, and a
    training can choose between them by something else.
    """
    values, place = np.unique(scores, return_inverse=True)

    def counted(times: Counts) -> float:
        viral, others = (
            np.bincount(place[side], weights=times[side], minlength=len(values))
            for side in (is_virus, ~is_virus)
        )
        pairs = viral.sum() * others.sum()
        below = np.cumsum(others) - others
        return float((viral * (below + others / 2)).sum() / pairs) if pairs else np.nan

    return counted


def resampled(aurocs: Sequence[Callable[[Counts], float]], is_virus: Flags) -> Floats | None:
    """AUROCs of `RESAMPLES` bootstrap resamples of records, by `ranked`.

    Each draws as many viral and as many other records as there are, with replacement; all of
    ``aurocs`` see the same draws, so that their differences are paired. Shape (RESAMPLES,
    len(aurocs)). None with fewer than `FEWEST_RECORDS` of a class: it would be too narrow.
    """
    rng = np.random.default_rng(SEED)
    sides = [np.flatnonzero(is_virus), np.flatnonzero(~is_virus)]
    if min(map(len, sides)) < FEWEST_RECORDS:
        return None
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rng.choice(side, len(side)) for side in sides])
        times = np.bincount(drawn, minlength=len(is_virus))
        found.append([auroc(times) for auroc in aurocs])
    return np.array(found)


def interval(values: Floats) -> list[float]:
    """The middle 95 % of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5]).round(6).tolist()
    return [low, high]


def calibration_error(probability: Floats, is_virus: Flags, bins: int = _BINS) -> float:
    """Mean distance of probabilities from the share of viruses, over ``bins`` of equal width.

    Naeini, Cooper & Hauskrecht, AAAI 2015, 2901-2907. The classes weigh the same, because that is
    what the probabilities are for.
    """
    excess = _balanced(is_virus) * (probability - is_virus)
    return float(np.abs(np.bincount(_bin_of(probability, bins), excess, bins)).sum())


def reliability_bins(
    probability: Floats, is_virus: Flags, bins: int = _BINS
) -> list[dict[str, float | int | None]]:
    """What is said and what is so, in ``bins``, the classes weighing the same; no empty ones."""
    weight, place = _balanced(is_virus), _bin_of(probability, bins)
    return [
        {
            "n": int(inside.sum()),
            "mean_probability": rounded(np.average(probability[inside], weights=weight[inside])),
            "share_virus": rounded(np.average(is_virus[inside], weights=weight[inside])),
        }
        for inside in (place == number for number in np.unique(place))
    ]


def discoveries(
    evidence: Floats,
    is_virus: Flags,
    prevalence: float,
    nominal: float,
    records: int = 1000,
    samples: int = 200,
) -> dict[str, float]:
    """Means over samples drawn from test contigs, seeded, that are called as a run calls records.

    The prevalence of each sample is estimated from it; records of a q-value of at most ``nominal``
    are called. The rate is the share of others among the calls (0 without a call), the recall the
    share of viruses that are called. ``evidence`` holds no NaN.
    """
    rng = np.random.default_rng(SEED)
    virus, others = evidence[is_virus], evidence[~is_virus]
    found = np.zeros((samples, 3))
    for row in found:
        viral = int(rng.binomial(records, prevalence))
        drawn = np.concatenate([rng.choice(virus, viral), rng.choice(others, records - viral)])
        estimated = estimate_prevalence(drawn)
        called = q_values(drawn, estimated) <= nominal
        right, wrong = int(called[:viral].sum()), int(called[viral:].sum())
        row[:] = wrong / max(1, right + wrong), right / max(1, viral), estimated
    names = ("false_discovery_rate", "recall", "estimated_prevalence")
    return dict(zip(names, found.mean(axis=0).round(6).tolist(), strict=True))


def rounded(value: Any) -> float | None:
    """A figure as files have it: six decimals."""
    return None if value is None else round(float(value), 6)


def _bin_of(probability: Floats, bins: int) -> Counts:
    return np.clip((probability * bins).astype(np.int64), 0, bins - 1)


def _balanced(is_virus: Flags) -> Floats:
    """Weights under which either class sums to one half."""
    counts = np.bincount(is_virus, minlength=2)
    weight: Floats = 0.5 / counts[is_virus.astype(np.int64)]
    return weight


def _are_both(is_virus: Flags) -> bool:
    return bool(is_virus.any() and not is_virus.all())


def _mean(flags: Flags) -> float | None:
    return float(flags.mean()) if len(flags) else None
