"""The GPUs of this machine, asked of the driver: the client starts no CUDA.

A CUDA call in the client before the workers start would put every model on the first GPU.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pynvml

Answer = TypeVar("Answer")


@contextmanager
def driver() -> Iterator[None]:
    """NVML, started, and shut down whatever happens.

    Raises
    ------
    pynvml.NVMLError
        Without a driver; and where a question inside cannot be answered.
    """
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def ask_gpus(question: Callable[[Any], Answer]) -> list[Answer]:
    """What NVML answers for each GPU of this machine, visible to CUDA or not; empty without one.

    Parameters
    ----------
    question
        Takes NVML's handle of a GPU.
    """
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
    shown = _visible([name.strip() for name in visible.split(",")], count)
    return shown, "" if shown else f"CUDA_VISIBLE_DEVICES={visible} shows none of the {count} GPUs"


def _visible(names: list[str], count: int) -> int:
    """How many of ``names`` CUDA takes: those before the first that is no GPU; none if one repeats.

    All are numbers, or all begin as those of a GPU or of a part of one; a GPU's can be cut short.
    """
    kind = next((kind for kind in ("GPU-", "MIG-") if names[0].startswith(kind)), "")
    uuids: list[str] = ask_gpus(pynvml.nvmlDeviceGetUUID) if kind == "GPU-" else []

    def is_gpu(name: str) -> bool:
        if kind == "GPU-":
            return sum(uuid.startswith(name) for uuid in uuids) == 1
        return name.startswith(kind) if kind else name.isdecimal() and int(name) < count

    good = list(itertools.takewhile(is_gpu, names))
    return len(good) if len(set(good)) == len(good) else 0


def gpu_memory_bytes() -> int:
    """Memory of the smallest GPU of this machine; 0 without one. Asks NVML."""
    return min(ask_gpus(lambda gpu: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).total)), default=0)


def gpu_celsius(device: str) -> float | None:
    """Temperature of the GPU of that name and UUID; None where NVML does not tell."""
    return _ask_gpu(device, lambda gpu: float(pynvml.nvmlDeviceGetTemperature(gpu, 0)))


def gpu_use(device: str) -> float | None:
    """Share of the last moment in which that GPU computed; None where NVML does not tell."""
    return _ask_gpu(device, lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)


def _ask_gpu(device: str, question: Callable[[Any], float]) -> float | None:
    """Asks NVML of a GPU, called by its name and torch's UUID."""
    uuid = device.rpartition(" ")[2].removeprefix("GPU-")
    try:
        with driver():
            return question(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except pynvml.NVMLError:
        return None


def why_no_dask_cuda() -> str:
    """Why dask-cuda cannot be used, or nothing."""
    try:
        import dask_cuda  # noqa: F401
    except ImportError as error:
        return f"dask-cuda cannot be imported ({error}); install virnuc-dask[gpu-cu13]"
    return ""
