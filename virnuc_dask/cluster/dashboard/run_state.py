"""What a run has done so far: kept on the scheduler, bounded in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from virnuc_dask.cluster.dashboard.timeline import Timeline

PAGE = "virnuc"  # of the dashboard
_EVENTS, _RECENT, _MOST_WORKERS = 200, 32, 4096
_LEAST_S = 20.0  # that a rate is a mean of
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


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while a run computes."""

    inputs: str
    out: str
    modelset: str
    precision: str
    mode: str  # persistent, per_partition
    parts: str  # what records are cut into: chunks, pieces
    scored: str  # frames, genes
    partitions: int
    partitions_before: int  # done by an earlier run
    chunks: int
    chunks_before: int


@dataclass(slots=True)
class WorkerState:
    """What one worker has told."""

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


@dataclass
class RunState:
    """Counts, rates and events of a run. Times are seconds since the epoch.

    ``run`` tells it from others; ``in_work`` counts the partitions that a worker, or every one,
    computes now.
    """

    about: About
    run: str
    started: float
    in_work: Callable[..., int]
    ended: float | None = None
    partitions_done: int = 0
    partitions_failed: int = 0
    chunks_done: int = 0
    chunks_failed: int = 0
    loads: int = 0
    scored: int = 0  # frames, or genes
    viral: int = 0
    rows_judged: int = 0  # of those scored, the ones whose label is known
    # Newest first: a time, a word, a line.
    events: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    chunks: Timeline = field(default_factory=Timeline)
    frames: Timeline = field(default_factory=Timeline)
    _workers: dict[str, WorkerState] = field(default_factory=dict)
    _spans_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _first_s: float | None = None  # after the start, when the first partition was begun
    _failing: int | None = None  # the partition that was last told to have failed

    def take(self, event: Mapping[str, Any], line: str, now: float) -> None:
        """Take in an event of the run's log, with the line that people read."""
        kind = event["event"]
        if kind == "partition_done":
            self._partition_done(event, now)
        elif kind == "partition_failed":
            self.chunks_failed += event["chunks"]
            self.partitions_failed += event["partition"] != self._failing
            self._failing = event["partition"]
        elif kind == "modelset_loaded":
            self.loads += 1
            worker = self._worker(event["worker"])
            worker.device, worker.residency = event["device"], event["residency"]
            worker.loads, worker.weight_bytes = event["loads"], event["weight_bytes"]
        if kind in _SHOWN:
            self.tell(now, _SHOWN[kind], line)

    def tell(self, now: float, what: str, text: str) -> None:
        """Show that something happened."""
        self.events.appendleft((now, what, text))

    def told(self, name: str) -> WorkerState:
        """What the worker of that name has told."""
        return self._workers.get(name, WorkerState())

    def _worker(self, name: str) -> WorkerState:
        if name not in self._workers and len(self._workers) >= _MOST_WORKERS:
            del self._workers[next(iter(self._workers))]
        return self._workers.setdefault(name, WorkerState())

    def _partition_done(self, event: Mapping[str, Any], now: float) -> None:
        name, chunks, frames = event["worker"], event["chunks"], event["frames"]
        if event["partition"] == self._failing:
            line = f"partition {self._failing}: halved until what failed stood alone; {chunks} "
            self.tell(now, "halved", f"{line}{self.about.parts} of it are done")
        else:
            self.partitions_done += 1
        self.chunks_done += chunks
        self.scored += frames
        if "predict" in event["elapsed_s"]:  # not where its table was there already
            self.rows_judged += frames
            self.viral += event["viral"]
        worker = self._worker(name)
        worker.partitions += 1
        worker.idle_s += event["device_idle_s"]
        # A worker extracts what it has been given before it predicts: results come in groups, and
        # a partition's seconds ended before. Over twice as many, rates are those of the work.
        self._spans_s.append(2 * event["total_s"])
        end_s = now - self.started
        begin_s = max(0.0, end_s - self._spans_s[-1])
        self._first_s = begin_s if self._first_s is None else min(self._first_s, begin_s)
        self.chunks.add(name, begin_s, end_s, chunks)
        self.frames.add(name, begin_s, end_s, frames)

    @property
    def viral_share(self) -> float | None:
        """Of the rows scored so far, those that are called virus; None before the first."""
        return self.viral / self.rows_judged if self.rows_judged else None

    def known_until_s(self, now: float) -> float:
        """Seconds since the start after which partitions in work may still add to the rates."""
        return max(0.0, (self.ended or now) - self.started - max(self._spans_s, default=0.0))

    def recent_rate(self, timeline: Timeline, now: float, worker: str | None = None) -> float:
        """Amount a second in the last quarter of what is known, of one worker or all of them."""
        until, first = self.known_until_s(now), self._first_s or 0.0
        return timeline.mean(worker, max(first, min(0.75 * until, until - _LEAST_S)), until)

    def remaining_s(self, now: float) -> float | None:
        """Seconds until the end at the recent rate; None as long as there is none."""
        rate = self.recent_rate(self.chunks, now)
        known = self.about.chunks_before + self.chunks_done + self.chunks_failed
        return (self.about.chunks - known) / rate if rate > 0 else None
