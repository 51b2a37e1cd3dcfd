"""How fast something went, by worker, over the whole of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SLOTS = 240
_MOST_WORKERS = 64  # drawn one by one
OTHERS = "others"

Rates = NDArray[np.floating[Any]]


class Timeline:
    """Amounts by worker in at most 240 slots of time, which grow wider as the run goes on."""

    def __init__(self) -> None:
        self.width_s = 1.0
        self._rows: dict[str, Rates] = {}

    def add(self, worker: str, begin_s: float, end_s: float, amount: float) -> None:
        """Spread ``amount`` evenly over the seconds in which it was made; later than 0."""
        end_s = max(end_s, begin_s + 1e-3)
        while end_s > _SLOTS * self.width_s:
            self._widen()
        if worker not in self._rows and len(self._rows) >= _MOST_WORKERS:
            worker = OTHERS
        row = self._rows.setdefault(worker, np.zeros(_SLOTS))
        edges = np.arange(_SLOTS + 1) * self.width_s
        row += amount * np.diff(np.clip(edges, begin_s, end_s)) / (end_s - begin_s)

    def _widen(self) -> None:
        self.width_s *= 2
        for worker, row in self._rows.items():
            halves = row.reshape(-1, 2).sum(axis=1)
            self._rows[worker] = np.concatenate([halves, np.zeros(_SLOTS // 2)])

    def rates(self, until_s: float) -> tuple[Rates, Mapping[str, Rates]]:
        """Middles of the slots that end before ``until_s``, and amounts a second by worker."""
        known = max(0, min(_SLOTS, int(until_s / self.width_s)))
        middles = (np.arange(known) + 0.5) * self.width_s
        return middles, {name: row[:known] / self.width_s for name, row in self._rows.items()}

    def mean(self, worker: str | None, since_s: float, until_s: float) -> float:
        """Amount a second of one worker, or of all, in a stretch of time; 0 of an empty one."""
        rows = (
            list(self._rows.values()) if worker is None else [self._rows.get(worker, np.zeros(0))]
        )
        first, end = int(since_s / self.width_s), int(until_s / self.width_s)
        if end <= first:
            return 0.0
        return float(sum(row[first:end].sum() for row in rows) / ((end - first) * self.width_s))
