"""The most memory that was held while something ran."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Self

import psutil

from virnuc_dask.lab.speed.machine import gpu_used_bytes


class PeakMemory:
    """Looks every few milliseconds at this process and those it has started.

    ``ram_bytes`` is the largest sum of their resident memory (pages that two of them share count
    twice), ``gpu_bytes`` the most in use on all GPUs, whoever used it.
    """

    def __init__(self, interval_s: float = 0.05) -> None:
        self.ram_bytes = self.gpu_bytes = 0
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        here = psutil.Process()
        held = 0
        for process in (here, *here.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
        self.ram_bytes = max(self.ram_bytes, held)
        self.gpu_bytes = max(self.gpu_bytes, gpu_used_bytes())
