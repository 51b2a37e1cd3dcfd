"""What a figure was measured on, and the most memory that was held."""

from __future__ import annotations

import os
import platform
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

import psutil
import pynvml

from virnuc_dask.cluster.connect import memory_bytes
from virnuc_dask.cluster.gpus import ask_gpus
from virnuc_dask.cluster.machine import cpu_model
from virnuc_dask.config import cores
from virnuc_dask.encoders.processor import this_processor


def describe() -> dict[str, object]:
    """The machine, its load and the date, as one part of a result's JSON."""
    processor = this_processor()
    return {
        "cpu": cpu_model(),
        "instructions": processor.instructions,
        "multiplies_bf16": processor.multiplies_bf16,
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "gpus": ask_gpus(lambda gpu: str(pynvml.nvmlDeviceGetName(gpu))),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def gpu_used_bytes() -> int:
    """Memory in use on all GPUs, whoever uses it; 0 without one. CUDA is not started for it."""
    return sum(ask_gpus(lambda gpu: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used)))


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
        here, held = psutil.Process(), 0
        for process in (here, *here.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += process.memory_info().rss
        self.ram_bytes = max(self.ram_bytes, held)
        self.gpu_bytes = max(self.gpu_bytes, gpu_used_bytes())
