from argparse import Namespace

import pynvml
import pytest

from virnuc_dask.cluster.gpus import count_gpus, gpu_memory_bytes
from virnuc_dask.lab.speed.machine import describe, gpu_used_bytes

GPUS = 3


@pytest.fixture
def nvml(monkeypatch):
    """A driver with three GPUs; ``running`` counts its starts less its ends."""
    state = Namespace(running=0, gigabytes=(80, 24, 80))

    def change(by):
        state.running += by

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: change(1))
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: change(-1))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: GPUS)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: number)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda gpu: f"Card {gpu}")
    monkeypatch.setattr(
        pynvml,
        "nvmlDeviceGetMemoryInfo",
        lambda gpu: Namespace(total=state.gigabytes[gpu] * 10**9, used=10**9),
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return state


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("0", 1),
        ("2, 0", 2),
        ("0,1,2,3", 3),
        ("1,-1,2", 1),
        ("-1", 0),
        ("NoDevFiles", 0),
        ("GPU-ab22,GPU-cc", 2),
        ("MIG-1234,MIG-5678", 2),
    ],
)
def test_gpus_are_those_that_cuda_shows(nvml, monkeypatch, visible, count):
    """Those before the first that is none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found, reason = count_gpus()
    assert found == count
    assert reason == ("" if count else f"CUDA_VISIBLE_DEVICES={visible} shows none of the 3 GPUs")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", " ")
    assert count_gpus() == (0, "CUDA_VISIBLE_DEVICES is empty")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert count_gpus() == (3, "")


def test_the_smallest_gpu_counts_and_without_a_driver_there_is_none(nvml, monkeypatch):
    assert gpu_memory_bytes() == 24 * 10**9
    assert gpu_used_bytes() == 3 * 10**9
    assert describe()["gpus"] == ["Card 0", "Card 1", "Card 2"]

    def no_driver():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert (gpu_memory_bytes(), gpu_used_bytes(), describe()["gpus"]) == (0, 0, [])
    assert "no NVIDIA driver" in count_gpus()[1]


@pytest.mark.parametrize("call", [count_gpus, gpu_memory_bytes, gpu_used_bytes, describe])
@pytest.mark.parametrize("lost", ["nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_the_driver_is_let_go_where_a_gpu_is_lost_too(nvml, monkeypatch, call, lost):
    def fail(*_):
        raise pynvml.NVMLError_GpuIsLost

    call()
    assert nvml.running == 0
    monkeypatch.setattr(pynvml, lost, fail)
    call()
    assert nvml.running == 0
