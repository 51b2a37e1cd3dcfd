"""What a run has done so far: kept on the scheduler, bounded in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from virnuc_dask.cluster.dashboard.timeline import Timeline

_EVENTS, _RECENT_PARTITIONS, _MOST_WORKERS = 200, 32, 4096
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
    gpu_bytes: int = 0  # torch's own, after its last partition
    partitions: int = 0
    idle_s: float = 0.0


class Event(NamedTuple):
    """Something that happened: seconds since the epoch, a word, a line."""

    time: float
    what: str
    text: str


@dataclass
class RunState:
    """Counts, rates and events of a run. Times are seconds since the epoch."""

    about: About
    started: float
    ended: float | None = None
    partitions_done: int = 0
    partitions_failed: int = 0
    chunks_done: int = 0
    chunks_failed: int = 0
    scored: int = 0  # frames, or genes
    viral: int = 0
    rows_judged: int = 0  # of those scored, the ones whose label is known
    workers: dict[str, WorkerState] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    chunks: Timeline = field(default_factory=Timeline)
    frames: Timeline = field(default_factory=Timeline)
    _durations: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_PARTITIONS))
    _failing: int | None = None  # the partition that was last told to have failed

    def take(self, event: Mapping[str, Any], line: str, now: float) -> None:
        """Take in an event of the run's log, with the line that people read."""
        kind = event["event"]
        if kind == "partition_done":
            self._partition_done(event, now)
        elif kind == "partition_failed":
            self._partition_failed(event)
        elif kind == "modelset_loaded":
            worker = self.worker(event["worker"])
            worker.device, worker.residency = event["device"], event["residency"]
            worker.loads, worker.weight_bytes = event["loads"], event["weight_bytes"]
        if kind in _SHOWN:
            self.tell(now, _SHOWN[kind], line)

    def tell(self, now: float, what: str, text: str) -> None:
        """Show that something happened."""
        self.events.appendleft(Event(now, what, text))

    def worker(self, name: str) -> WorkerState:
        """What the worker of that name has told; nothing yet of a new one."""
        if name not in self.workers and len(self.workers) >= _MOST_WORKERS:
            del self.workers[next(iter(self.workers))]
        return self.workers.setdefault(name, WorkerState())

    def _partition_failed(self, event: Mapping[str, Any]) -> None:
        self.chunks_failed += event["chunks"]
        if event["partition"] != self._failing:
            self._failing = event["partition"]
            self.partitions_failed += 1

    def _partition_done(self, event: Mapping[str, Any], now: float) -> None:
        if event["partition"] == self._failing:
            self.tell(
                now,
                "halved",
                f"partition {event['partition']} was halved until what failed stood alone; the "
                f"other {event['chunks']} {self.about.parts} are done",
            )
        else:
            self.partitions_done += 1
        self.chunks_done += event["chunks"]
        self.scored += event["frames"]
        if "predict" in event["elapsed_s"]:  # not where its table was there already
            self.rows_judged += event["frames"]
            self.viral += event["viral"]
        worker = self.worker(event["worker"])
        worker.partitions += 1
        worker.idle_s += event["device_idle_s"]
        if worker.device not in ("", "cpu"):
            worker.gpu_bytes = event["memory_after_bytes"]
        # A worker extracts what it has been given before it predicts: results come in groups, and
        # a partition's seconds ended before. Over twice as many, rates are those of the work.
        self._durations.append(2 * event["total_s"])
        end_s = now - self.started
        begin_s = max(0.0, end_s - self._durations[-1])
        self.chunks.add(event["worker"], begin_s, end_s, event["chunks"])
        self.frames.add(event["worker"], begin_s, end_s, event["frames"])

    @property
    def chunks_left(self) -> int:
        """Chunks of which nothing is known yet."""
        return self.about.chunks - self.about.chunks_before - self.chunks_done - self.chunks_failed

    @property
    def viral_share(self) -> float | None:
        """Of the rows scored so far, those that are called virus; None before the first."""
        return self.viral / self.rows_judged if self.rows_judged else None

    def known_until_s(self, now: float) -> float:
        """Seconds since the start after which partitions in work may still add to the rates."""
        return max(0.0, (self.ended or now) - self.started - max(self._durations, default=0.0))

    def recent_rate(self, timeline: Timeline, now: float, worker: str | None = None) -> float:
        """Amount a second in the last quarter of what is known, of one worker or all of them."""
        until = self.known_until_s(now)
        return timeline.mean(worker, max(0.0, min(0.75 * until, until - _LEAST_S)), until)

    def remaining_s(self, now: float) -> float | None:
        """Seconds until the end at the recent rate; None as long as there is none."""
        rate = self.recent_rate(self.chunks, now)
        return self.chunks_left / rate if rate > 0 else None
