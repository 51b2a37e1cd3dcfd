"""One partition computes at a time, while others are read, tokenised and written.

A GPU worker's threads have a partition in work each. Only one may use the device; the others find
frames, tokenise or write meanwhile, and have their batches ready when their turn comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from virnuc_dask.errors import ModelSetError

ENCODERS = ("nucleotide", "peptide")


class ReleasedError(ModelSetError):
    """The model set was released while a partition waited for it."""

    def __init__(self) -> None:
        super().__init__("the model set was released, or never loaded, in this worker.")


class DeviceClock:
    """How long a device computes nothing between two computations."""

    def __init__(self) -> None:
        self._ended: float | None = None

    def idle_s(self) -> float:
        """Seconds since the last computation ended; 0 before the first."""
        return 0.0 if self._ended is None else time.perf_counter() - self._ended

    def end(self) -> None:
        """A computation has ended."""
        self._ended = time.perf_counter()


class DeviceUse:
    """One partition's way through both encoders, the nucleotide encoder first.

    ``waited_s`` are the seconds that it waited for the device, ``device_idle_s`` those that the
    device waited for it.
    """

    def __init__(self, lock: DeviceLock) -> None:
        self._lock = lock
        self.done = 0  # encoders it has been through
        self.waited_s = self.device_idle_s = 0.0

    @contextmanager
    def computing(self, encoder: str) -> Iterator[None]:
        """Wait for the device and use it alone; `ReleasedError` if the model set goes before."""
        place, start = ENCODERS.index(encoder), time.perf_counter()
        self._lock.wait_for(self, place)
        self.waited_s += time.perf_counter() - start
        self.device_idle_s += self._lock.clock.idle_s()
        try:
            yield
        finally:
            self._lock.clock.end()
            self.done = place + 1
            self._lock.pass_on(self)


class DeviceLock:
    """Lets one partition of a process compute at a time.

    With both encoders in memory a partition keeps its turn from the first to the second: so it
    ends early, and is written while the next one computes. ``grouped`` is for encoders that are in
    memory one at a time: all partitions in work go through the one before any goes on to the
    other, so that a group of them shares each change.
    """

    def __init__(self, *, grouped: bool = False, clock: DeviceClock | None = None) -> None:
        self.clock = clock or DeviceClock()
        self._grouped = grouped
        self._changed = threading.Condition()
        self._in_work: list[DeviceUse] = []
        self._holder: DeviceUse | None = None
        self._place = 0  # of the encoder in use
        self._closed = False

    @contextmanager
    def partition(self) -> Iterator[DeviceUse]:
        """Take up a partition; its reading too belongs inside, for a group to wait for it."""
        use = DeviceUse(self)
        with self._changed:
            self._in_work.append(use)
        try:
            yield use
        finally:
            with self._changed:
                self._in_work.remove(use)
                if self._holder is use:
                    self._holder = None
                self._changed.notify_all()

    def close(self) -> None:
        """Turn away those that wait; the one that computes goes on to its end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for(self, use: DeviceUse, place: int) -> None:
        """Wait until ``use`` may use the encoder at ``place``; see `DeviceUse.computing`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._may_compute(use, place))
            if self._closed and self._holder is not use:
                raise ReleasedError
            self._holder, self._place = use, place

    def pass_on(self, use: DeviceUse) -> None:
        """Let the next one compute, unless ``use`` keeps the device for its other encoder."""
        with self._changed:
            if self._grouped or use.done == len(ENCODERS):
                self._holder = None
                self._changed.notify_all()

    def _may_compute(self, use: DeviceUse, place: int) -> bool:
        if self._holder is not None:
            return self._holder is use
        if not self._grouped or place == self._place:
            return True
        return all(other.done != self._place for other in self._in_work)
