"""What is measured: figures over scores and labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Strata of GC content with fewer viruses or fewer others say nothing.
_FEWEST_IN_STRATUM = 20


def auroc(scores: Floats, is_virus: Flags) -> float:
    """Chance that a virus scores above another sequence, ties counting half."""
    values, place = np.unique(scores, return_inverse=True)
    viral = np.bincount(place[is_virus], minlength=len(values))
    others = np.bincount(place[~is_virus], minlength=len(values))
    below = np.cumsum(others) - others
    return float((viral * (below + others / 2)).sum() / (viral.sum() * others.sum()))


def average_precision(scores: Floats, is_virus: Flags) -> float:
    """Mean precision over the recalled viruses; sequences of equal score enter together."""
    values, place = np.unique(-scores, return_inverse=True)
    viral = np.bincount(place[is_virus], minlength=len(values))
    called = np.cumsum(np.bincount(place, minlength=len(values)))
    return float((viral * np.cumsum(viral) / called).sum() / viral.sum())


def quality(scores: Floats, is_virus: Flags) -> dict[str, float | int]:
    """Figures over the scored sequences, NaN being unscored; calls at a score of 0.5."""
    scored = ~np.isnan(scores)
    scores, is_virus = scores[scored], is_virus[scored]
    return {
        "n_virus": int(is_virus.sum()),
        "n_others": int((~is_virus).sum()),
        "n_unscored": int((~scored).sum()),
        "auroc": round(auroc(scores, is_virus), 4),
        "average_precision": round(average_precision(scores, is_virus), 4),
        "called_of_virus": round(float((scores[is_virus] >= 0.5).mean()), 4),
        "called_of_others": round(float((scores[~is_virus] >= 0.5).mean()), 4),
    }


def means(scores: Floats, group_of: NDArray[np.int64], groups: int) -> Floats:
    """Mean of the scores that are not NaN, by group; NaN for a group without one."""
    scored = ~np.isnan(scores)
    counts = np.bincount(group_of[scored], minlength=groups)
    sums = np.bincount(group_of[scored], weights=scores[scored], minlength=groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def gc_content(dna: str) -> float:
    """Share of G and C."""
    return (dna.count("G") + dna.count("C")) / max(len(dna), 1)


def within_strata(
    figure: Callable[[Floats, Flags], float], scores: Floats, is_virus: Flags, gc: Floats
) -> float | None:
    """Mean of ``figure`` over strata of 5 % GC content; None if all are too small.

    The AUROC within strata is what is left of it where composition alone tells nothing.
    """
    stratum = (gc * 20).astype(np.int64)
    inside = [stratum == number for number in np.unique(stratum)]
    figures = [
        figure(scores[here], is_virus[here])
        for here in inside
        if min(is_virus[here].sum(), (~is_virus[here]).sum()) >= _FEWEST_IN_STRATUM
    ]
    return float(np.mean(figures)) if figures else None


def error_rates(scores: Floats, is_virus: Flags, threshold: float) -> tuple[float, float]:
    """Share of the viruses below ``threshold``, and of the others not below it."""
    missed = float((scores[is_virus] < threshold).mean())
    return missed, float((scores[~is_virus] >= threshold).mean())


def equal_error_threshold(scores: Floats, is_virus: Flags) -> float:
    """Where both error rates are equal or come closest: between two scores, in the middle."""
    values = np.unique(scores)
    between = (values[1:] + values[:-1]) / 2
    missed = np.searchsorted(np.sort(scores[is_virus]), between) / is_virus.sum()
    false = 1 - np.searchsorted(np.sort(scores[~is_virus]), between) / (~is_virus).sum()
    apart = np.abs(missed - false)
    closest = np.flatnonzero(apart <= apart.min() + 1e-12)
    return float(between[[closest[0], closest[-1]]].mean())
