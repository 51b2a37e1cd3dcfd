import time

import numpy as np
import pytest

from virnuc_dask.measuring import memory
from virnuc_dask.measuring.memory import PeakMemory


def test_the_peak_is_seen_even_when_it_is_over():
    with PeakMemory(interval_s=0.005) as nothing:
        pass
    with PeakMemory(interval_s=0.005) as peak:
        block = np.ones(10_000_000)
        time.sleep(0.05)
        del block
    assert peak.ram_bytes - nothing.ram_bytes == pytest.approx(80e6, rel=0.25)


def test_memory_of_gpus_is_looked_at_too(monkeypatch):
    used = iter([3, 9, 5])
    monkeypatch.setattr(memory, "gpu_used_bytes", lambda: next(used, 1))
    with PeakMemory(interval_s=0.005) as peak:
        time.sleep(0.05)
    assert peak.gpu_bytes == 9
