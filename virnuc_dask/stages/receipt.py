"""What a stage returns: counts, seconds, bytes; never rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.tables.plan import PartitionTask, Rows

# Failures that one chunk of a partition can be to blame for, and those that its files are. Anything
# else is a bug, and ends the run; so are some errors that Python counts among the first ones.
CHUNK_FAILURES = (RuntimeError, MemoryError, LostRowsError)
PARTITION_FAILURES = (*CHUNK_FAILURES, OSError, BadTableError)
BUGS = (NotImplementedError, RecursionError)


@dataclass(frozen=True, slots=True)
class Failure:
    """Chunks of a partition that could not be computed, and why."""

    partition: int
    reason: str
    rows: Rows  # of the partition

    @property
    def chunks(self) -> int:
        """Their number."""
        return self.rows[1] - self.rows[0]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A partition's stage that is done: ``chunks`` that were computed, and those that failed."""

    partition: int
    chunks: int
    frames: int
    memory_before_bytes: int
    memory_after_bytes: int
    elapsed_s: Mapping[str, float] = field(default_factory=dict)  # by stage
    device_idle_s: float = 0.0  # between the computing of the partition before and of this one
    embedded: Mapping[str, int] = field(default_factory=dict)  # as `Stopwatch` counts them
    viral: int = 0  # frames, or genes, called virus; of a table that was there none is counted
    worker: str = ""
    failures: tuple[Failure, ...] = ()

    @classmethod
    def of_failed(cls, task: PartitionTask, reason: str) -> Self:
        """The receipt of a partition of which nothing could be computed."""
        failure = Failure(task.index, reason, (0, task.chunks))
        return cls(task.index, 0, 0, 0, 0, failures=(failure,))

    @property
    def failed_rows(self) -> tuple[Rows, ...]:
        """The rows of the partition that its tables lack."""
        return tuple(failure.rows for failure in self.failures)


@dataclass(frozen=True, slots=True)
class Extracted:
    """What `extract` hands to `predict`: the feature table, unless that is to be read."""

    receipt: Receipt
    features: pa.Table | None = None

    def __sizeof__(self) -> int:
        # By which Dask decides what it moves between workers.
        return object.__sizeof__(self) + (0 if self.features is None else self.features.nbytes)


@dataclass
class Tally:
    """What came back from the partitions of a run."""

    failures: list[Failure] = field(default_factory=list)
    done: dict[int, int] = field(default_factory=dict)  # chunks by partition
    stage_s: dict[str, float] = field(default_factory=dict)
    device_idle_s: float = 0.0
    embedded: dict[str, int] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)

    def add(self, receipt: Receipt) -> None:
        """Count what became of a partition."""
        self.failures += receipt.failures
        self.done[receipt.partition] = receipt.chunks
        self.device_idle_s += receipt.device_idle_s
        _add_up(self.stage_s, receipt.elapsed_s)
        _add_up(self.embedded, receipt.embedded)

    @property
    def failed_partitions(self) -> set[int]:
        """Partitions of which something failed."""
        return {failure.partition for failure in self.failures}

    @property
    def failed_chunks(self) -> int:
        """Chunks that failed."""
        return sum(failure.chunks for failure in self.failures)

    @property
    def computed(self) -> int:
        """Partitions that were computed, all of each."""
        return len(self.done.keys() - self.failed_partitions)

    def require_all(self, planned: Iterable[PartitionTask]) -> None:
        """`LostRowsError` unless every chunk of every partition came back, done or failed."""
        failed: Counter[int] = Counter()
        for failure in self.failures:
            failed[failure.partition] += failure.chunks
        for task in planned:
            done = self.done.get(task.index, 0)
            if done + failed[task.index] != task.chunks:
                raise LostRowsError(
                    f"partition {task.index}: {task.chunks} chunks went in, {done} came out and "
                    f"{failed[task.index]} failed. This is a bug; --resume computes them again."
                )


class Stopwatch:
    """Seconds by stage; and ``frames`` that were embedded, with the distinct texts by encoder."""

    def __init__(self) -> None:
        self.elapsed_s: dict[str, float] = {}
        self.device_idle_s = 0.0
        self.embedded: dict[str, int] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the seconds spent inside to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            _add_up(self.elapsed_s, {stage: time.perf_counter() - start})

    def add(self, waited_s: float, idle_s: float, **embedded: int) -> None:
        """Count one use of the device: seconds it was waited for, and was idle, and texts."""
        _add_up(self.elapsed_s, {"wait": waited_s})
        self.device_idle_s += idle_s
        _add_up(self.embedded, embedded)


def _add_up(totals: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        totals[key] = totals.get(key, 0) + value
