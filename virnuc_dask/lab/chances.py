"""How often rows are drawn, and drawing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def chances(
    kinds: NDArray[np.str_], groups: NDArray[Any], shares: Mapping[str, float]
) -> NDArray[np.float64]:
    """How often to draw each: its kind's share, within a kind by the root of its group's size.

    A kind that ``shares`` does not have is never drawn.
    """
    chance = np.zeros(len(kinds))
    for kind, share in shares.items():
        rows = np.flatnonzero(kinds == kind)
        if len(rows):
            _, place, size = np.unique(groups[rows], return_inverse=True, return_counts=True)
            weight = 1 / np.sqrt(size[place])
            chance[rows] = share * weight / weight.sum()
    total = chance.sum()
    return chance / total if total else chance


def draw_rows(upto: NDArray[np.float64], many: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows by the running sum of their chances, with replacement."""
    place = np.searchsorted(upto, rng.random(many) * upto[-1], side="right")
    rows: NDArray[np.int64] = np.minimum(place, len(upto) - 1)
    return rows
