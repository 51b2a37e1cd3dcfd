"""What a stage returns: counts, seconds, bytes; never rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

# Failures that belong to one partition: a full disk, memory, a damaged table. Anything else is a
# bug, and is not caught.
from virnuc_dask.errors import BadTableError, LostRowsError

PARTITION_FAILURES = (OSError, RuntimeError, MemoryError, BadTableError, LostRowsError)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A partition's stage that is done."""

    partition: int
    chunks: int
    frames: int
    memory_before_bytes: int
    memory_after_bytes: int
    elapsed_s: Mapping[str, float] = field(default_factory=dict)  # by stage
    device_idle_s: float = 0.0  # between the computing of the partition before and of this one
    embedded: Mapping[str, int] = field(default_factory=dict)  # as `Stopwatch` counts them
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A partition that could not be done, and why."""

    partition: int
    reason: str


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
            spent = time.perf_counter() - start
            self.elapsed_s[stage] = self.elapsed_s.get(stage, 0.0) + spent
