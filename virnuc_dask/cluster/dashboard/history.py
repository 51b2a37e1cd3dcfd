"""A run as its page shows it: kept on the scheduler, bounded in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.cluster.run_state import Pace, RunState

PAGE = "virnuc"  # of the dashboard
OTHERS = "others"
_EVENTS, _RECENT, _MOST_WORKERS = 200, 32, 4096
_SLOTS, _MOST_DRAWN = 240, 64  # of a timeline: pieces of time; workers one by one
# Events that the page shows, and how it calls them.
_SHOWN = {
    "modelset_loading": "loading",
    "modelset_loaded": "loaded",
    "encoder_loaded": "loaded",
    "modelset_released": "released",
    "cache_cleared": "cache cleared",
    "worker_refused": "refused",
    "partition_deadly": "retried",
    "partition_failed": "failed",
    "warning": "warning",
    "note": "note",
}

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
        if worker not in self._rows and len(self._rows) >= _MOST_DRAWN:
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


@dataclass(slots=True)
class WorkerState:
    """What one worker has told."""

    pace: Pace
    device: str = ""
    residency: str = ""
    loads: int = 0
    weight_bytes: int = 0
    partitions: int = 0
    idle_s: float = 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether its model set is on a GPU."""
        return self.device not in ("", "cpu")


class RunHistory(RunState):
    """A run's counts, and what each worker did and when.

    ``run`` tells it from others; ``in_work`` counts the partitions that a worker, or every one,
    computes now.
    """

    def __init__(self, run: str, started: float, in_work: Callable[..., int]) -> None:
        super().__init__()
        self.run, self.started, self.in_work = run, started, in_work
        self.ended: float | None = None
        self.loads = 0
        # Newest first: a time, a word, a line.
        self.events: deque[tuple[float, str, str]] = deque(maxlen=_EVENTS)
        self.chunks_by_time, self.frames_by_time = Timeline(), Timeline()
        self._workers: dict[str, WorkerState] = {}
        self._spans_s: deque[float] = deque(maxlen=_RECENT)

    def take(self, event: Mapping[str, Any], at: float, line: str = "") -> None:
        """Take in an event, with the line that people read."""
        super().take(event, at)
        kind = event["event"]
        if kind == "partition_done":
            self._partition_done(event, at)
        elif kind == "modelset_loaded":
            self.loads += 1
            worker = self._worker(event["worker"], at)
            worker.device, worker.residency = event["device"], event["residency"]
            worker.loads, worker.weight_bytes = event["loads"], event["weight_bytes"]
        if kind in _SHOWN:
            self.tell(at, _SHOWN[kind], line)

    def tell(self, at: float, what: str, text: str) -> None:
        """Show that something happened."""
        self.events.appendleft((at, what, text))

    def told(self, name: str) -> WorkerState:
        """What the worker of that name has told."""
        return self._workers.get(name, WorkerState(Pace(self.started)))

    def _worker(self, name: str, at: float) -> WorkerState:
        if name not in self._workers and len(self._workers) >= _MOST_WORKERS:
            del self._workers[next(iter(self._workers))]
        return self._workers.setdefault(name, WorkerState(Pace(at)))

    def _partition_done(self, event: Mapping[str, Any], at: float) -> None:
        name, chunks, frames = event["worker"], event["chunks"], event["frames"]
        if event["partition"] == self.failing:
            line = f"partition {self.failing}: halved until what failed stood alone; {chunks} "
            self.tell(at, "halved", f"{line}{self.units.parts} of it are done")
        worker = self._worker(name, at - event["total_s"])
        worker.partitions += 1
        worker.idle_s += event["device_idle_s"]
        worker.pace.add(at, chunks, frames)
        # A worker extracts what it has been given before it predicts: results come in groups, and
        # a partition's seconds ended before. Over twice as many, rates are those of the work.
        self._spans_s.append(2 * event["total_s"])
        end_s = at - self.started
        begin_s = max(0.0, end_s - self._spans_s[-1])
        self.chunks_by_time.add(name, begin_s, end_s, chunks)
        self.frames_by_time.add(name, begin_s, end_s, frames)

    @property
    def viral_share(self) -> float | None:
        """Of the rows scored so far, those that are called virus; None before the first."""
        return self.viral / self.judged if self.judged else None

    def known_until_s(self, now: float) -> float:
        """Seconds since the start after which partitions in work may still add to the charts."""
        return max(0.0, now - self.started - max(self._spans_s, default=0.0))
