"""What a run has done, as the events of its log tell: for `status`, bar, dashboard and metrics."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from virnuc_dask.modelsets.manifest import Units

_WINDOW_S = 600.0  # that rates are of
_PHASES = {  # what a run does after an event
    "run_started": "planning",
    "planned": "starting workers",
    "modelset_loading": "loading the model set",
    "modelset_loaded": "computing",
}


class Pace:
    """Chunks and frames a second, over the last ten minutes: workers come and go.

    Times are in seconds, of any clock.
    """

    def __init__(self, start: float) -> None:
        self._since = start  # the beginning of what the steps tell of
        self._steps: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, chunks: int, frames: int) -> None:
        """A partition is done; those of one second are kept as one."""
        if self._steps and int(self._steps[-1][0]) == int(now):
            _, more_chunks, more_frames = self._steps.pop()
            chunks, frames = chunks + more_chunks, frames + more_frames
        self._steps.append((now, chunks, frames))
        while len(self._steps) > 1 and self._steps[0][0] < now - _WINDOW_S:
            self._since = self._steps.popleft()[0]

    def rates(self, now: float) -> tuple[float, float]:
        """Chunks and frames a second."""
        elapsed_s = max(now - self._since, 1e-9)
        steps = tuple(self._steps)  # another thread may add one meanwhile
        return sum(step[1] for step in steps) / elapsed_s, sum(s[2] for s in steps) / elapsed_s


class RunState:
    """Counts and rates of one run; times are seconds since the epoch."""

    def __init__(self) -> None:
        self.last: dict[str, Mapping[str, Any]] = {}  # event of each kind
        self.partitions = self.chunks = 0  # done, by earlier runs too
        self.partitions_failed = self.chunks_failed = 0
        self.frames = self.viral = 0  # scored by this run, or genes; called virus
        self.judged = 0  # of those scored, the ones whose label is known
        self.phase = ""
        self.updated = self.worked = 0.0
        self.pace = Pace(0)
        self.failing: int | None = None  # the partition that was last told to have failed

    @property
    def units(self) -> Units:
        """What records are cut into, and what is scored."""
        told = self.planned
        return Units(told["parts"], told["scored"]) if "scored" in told else Units()

    @property
    def planned(self) -> Mapping[str, Any]:
        """The event of the plan; empty before it is made."""
        return self.last.get("planned", {})

    @property
    def chunks_planned(self) -> int:
        """Chunks of the whole run."""
        return int(self.planned.get("chunks", 0))

    def take(self, event: Mapping[str, Any], at: float) -> None:
        """Take in an event; `KeyError` if it is another version's."""
        kind = event["event"]
        self.last[kind], self.updated = event, at
        self.phase = _PHASES.get(kind, self.phase)
        if kind == "planned":
            self.partitions, self.chunks = event["partitions_done"], event.get("chunks_done", 0)
        elif kind == "modelset_loading" or (kind == "modelset_loaded" and not self.worked):
            self.pace = Pace(at)
        elif kind == "partition_done":
            self._done(event)
        elif kind == "partition_failed":
            self.chunks_failed += event["chunks"]
            self.partitions_failed += event["partition"] != self.failing
            self.failing = event["partition"]
        if kind in ("partition_done", "partition_failed"):
            self._work(at, event["chunks"], event.get("frames", 0))

    def _done(self, event: Mapping[str, Any]) -> None:
        self.partitions += event["partition"] != self.failing
        self.chunks += event["chunks"]
        self.frames += event["frames"]
        if "predict" in event.get("elapsed_s", ()):  # not where its table was there already
            self.judged += event["frames"]
            self.viral += event["viral"]

    def _work(self, at: float, chunks: int, frames: int) -> None:
        self.worked = at
        self.pace.add(at, chunks, frames)
        if not self.chunks_left:
            self.phase = "writing results"

    @property
    def chunks_left(self) -> int:
        """Chunks of which nothing is known yet."""
        return max(0, self.chunks_planned - self.chunks - self.chunks_failed)

    def left_s(self, now: float) -> float | None:
        """Seconds to the last chunk at the present rate; None while there is none."""
        chunks_per_s, _ = self.pace.rates(now)
        return self.chunks_left / chunks_per_s if chunks_per_s else None
