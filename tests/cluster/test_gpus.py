"""What a machine has, as its driver and its files tell it."""

from argparse import Namespace
from importlib.machinery import ModuleSpec

import pynvml
import pytest

from virnuc_dask.cluster import machine
from virnuc_dask.cluster.gpus import count_gpus, gpu_memory_bytes
from virnuc_dask.cluster.machine import Gpu, this_machine
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
        lambda gpu: Namespace(total=state.gigabytes[gpu] * 10**9, used=10**9, free=70),
    )
    monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion_v2", lambda: 12040)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "550.54")
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
    found = this_machine()
    assert found.gpus[:2] == (Gpu("Card 0", 80 * 10**9, 70), Gpu("Card 1", 24 * 10**9, 70))
    assert (found.driver, found.driver_cuda, found.no_gpu) == ("550.54", "12.4", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len(this_machine().gpus) == 1

    def no_driver():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert (gpu_memory_bytes(), gpu_used_bytes(), describe()["gpus"]) == (0, 0, [])
    found = this_machine()
    assert (found.gpus, found.driver, found.driver_cuda) == ((), None, None)
    assert found.no_gpu.startswith("no NVIDIA driver")


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


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = '12.6'", "12.6"), ("cuda = '13.0'", "13.0"), ("cuda = None", None)],
)
def test_torchs_cuda_is_read_without_importing_it(monkeypatch, tmp_path, line, cuda):
    (tmp_path / "version.py").write_text(f"debug = False\n{line}\nhip = '6.1'\n")
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: spec)
    assert this_machine().torch_cuda == cuda
