"""The GPUs of this machine, asked of the driver: the client starts no CUDA.

A CUDA call in the client before the workers start would put every model on the first GPU.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import pynvml

Answer = TypeVar("Answer")


@contextmanager
def driver() -> Iterator[None]:
    """NVML, started; `pynvml.NVMLError` without a driver, or where it cannot answer."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def ask_gpus(question: Callable[[Any], Answer]) -> list[Answer]:
    """What NVML answers for each GPU's handle, visible to CUDA or not; empty without one."""
    try:
        with driver():
            count = pynvml.nvmlDeviceGetCount()
            return [question(pynvml.nvmlDeviceGetHandleByIndex(n)) for n in range(count)]
    except pynvml.NVMLError:
        return []


def count_gpus() -> tuple[int, str]:
    """GPUs this process may use and, if none, why. Asks NVML."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return 0, "CUDA_VISIBLE_DEVICES is empty"
    try:
        with driver():
            count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return 0, f"no NVIDIA driver ({error})"
    if not count:
        return 0, "the driver finds no GPU"
    if visible is None:
        return count, ""
    shown = sum(1 for _ in itertools.takewhile(partial(_is_gpu, count), visible.split(",")))
    return shown, "" if shown else f"CUDA_VISIBLE_DEVICES={visible} shows none of the {count} GPUs"


def _is_gpu(count: int, name: str) -> bool:
    """Whether CUDA takes a name for a GPU, or a part of one; it stops at the first that is none."""
    name = name.strip()
    return name.startswith(("GPU-", "MIG-")) or (name.isdecimal() and int(name) < count)


def gpu_memory_bytes() -> int:
    """Memory of the smallest GPU of this machine; 0 without one. Asks NVML."""
    return min(ask_gpus(lambda gpu: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).total)), default=0)


def gpu_celsius(device: str) -> float:
    """Temperature of the GPU of that name and UUID; not a number where NVML does not tell."""
    return _ask_gpu(device, lambda gpu: float(pynvml.nvmlDeviceGetTemperature(gpu, 0)))


def gpu_use(device: str) -> float:
    """Share of the last moment in which that GPU computed; not a number likewise."""
    return _ask_gpu(device, lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)


def _ask_gpu(device: str, question: Callable[[Any], float]) -> float:
    """Asks NVML of a GPU, called by its name and torch's UUID."""
    uuid = device.rpartition(" ")[2].removeprefix("GPU-")
    try:
        with driver():
            return question(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except pynvml.NVMLError:
        return math.nan


def why_no_dask_cuda() -> str:
    """Why dask-cuda cannot be used, or nothing."""
    try:
        import dask_cuda  # noqa: F401
    except ImportError as error:
        return f"dask-cuda cannot be imported ({error}); install virnuc-dask[gpu-cu13]"
    return ""
