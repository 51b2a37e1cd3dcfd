"""What a machine has: versions, processor, GPUs, memory, limits. Asked without starting CUDA."""

from __future__ import annotations

import importlib.util
import platform
import re
import resource
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pynvml

from virnuc_dask.cluster.connect import memory_bytes
from virnuc_dask.cluster.gpus import ask_gpus, count_gpus, driver
from virnuc_dask.config import cores
from virnuc_dask.encoders.processor import Processor, cpu_info, this_processor

_TORCH_CUDA = re.compile(r"^cuda\b[^=]*= '([\d.]+)'", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and its memory."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What one process has to compute with."""

    host: str
    versions: Mapping[str, str | None]
    cpu: str
    processor: Processor
    cores: int
    memory_bytes: int  # that this container or job may use
    free_bytes: int  # of the machine's memory
    open_files: int
    gpus: tuple[Gpu, ...] = ()  # those that this process may use
    no_gpu: str = ""  # why there is none
    driver: str | None = None
    driver_cuda: str | None = None  # the newest that the driver knows
    torch_cuda: str | None = None  # that torch was built for
    clock: float = field(default_factory=time.time)


def this_machine() -> Machine:
    """What this process has."""
    count, no_gpu = count_gpus()
    known, newest = _driver()
    return Machine(
        host=socket.gethostname(),
        versions=versions("distributed", "pyarrow", "dask-cuda", "dask-jobqueue"),
        cpu=cpu_model(),
        processor=this_processor(),
        cores=cores(),
        memory_bytes=memory_bytes(),
        free_bytes=psutil.virtual_memory().available,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        gpus=tuple(ask_gpus(_gpu)[:count]),
        no_gpu=no_gpu,
        driver=known,
        driver_cuda=newest,
        torch_cuda=_torch_cuda(),
    )


def versions(*packages: str) -> dict[str, str | None]:
    """Versions of Python, of this package and its engines, and of ``packages``."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("virnuc-dask", "torch", "dask", "numpy", *packages):
        found[name] = None
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def cpu_model() -> str:
    """The processor's name."""
    return cpu_info("model name") or platform.processor()


def _gpu(handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free))


def _driver() -> tuple[str | None, str | None]:
    """The driver's version, and that of the newest CUDA that it knows."""
    try:
        with driver():
            number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
            return str(
                pynvml.nvmlSystemGetDriverVersion()
            ), f"{number // 1000}.{number % 1000 // 10}"
    except pynvml.NVMLError:
        return None, None


def _torch_cuda() -> str | None:
    """The CUDA that torch was built for, from its files: importing it takes seconds."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    with suppress(OSError):
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
        if match := _TORCH_CUDA.search(text):
            return match[1]
    return None
