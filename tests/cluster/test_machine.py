"""What a machine has, as its driver and its files tell it."""

from importlib.machinery import ModuleSpec
from types import SimpleNamespace

import pynvml
import pytest

from virnuc_dask.cluster import machine
from virnuc_dask.cluster.machine import Gpu, this_machine


@pytest.fixture
def two_gpus(monkeypatch):
    """A driver that knows two GPUs."""
    memory = SimpleNamespace(total=80, free=70)
    answers = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 2,
        "nvmlDeviceGetHandleByIndex": None,
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetName": "H200",
        "nvmlSystemGetCudaDriverVersion_v2": 12040,
        "nvmlSystemGetDriverVersion": "550.54",
    }
    for name, value in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, value=value: value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_and_driver_are_those_of_nvml(monkeypatch):
    found = this_machine()
    assert found.gpus == (Gpu("H200", 80, 70),) * 2
    assert (found.driver, found.driver_cuda, found.no_gpu) == ("550.54", "12.4", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert len(this_machine().gpus) == 1


def test_without_a_driver_the_reason_is_told(monkeypatch):
    def fail():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = this_machine()
    assert (found.gpus, found.driver, found.driver_cuda) == ((), None, None)
    assert found.no_gpu.startswith("no NVIDIA driver")


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("cuda: Optional[str] = '12.6'", "12.6"), ("cuda = '13.0'", "13.0"), ("cuda = None", None)],
)
def test_torchs_cuda_is_read_without_importing_it(monkeypatch, tmp_path, line, cuda):
    (tmp_path / "version.py").write_text(f"debug = False\n{line}\nhip = '6.1'\n")
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: spec)
    assert this_machine().torch_cuda == cuda


def test_what_every_machine_has_is_known():
    found = this_machine()
    assert found.versions["virnuc-dask"]
    assert found.cores > 0
    assert found.memory_bytes > 0
    assert found.open_files > 0
    assert found.cpu
