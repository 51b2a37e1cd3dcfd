"""The GPUs of this machine, asked of the driver: the client starts no CUDA.

A CUDA call in the client before the workers start would put every model on the first GPU.
"""

from __future__ import annotations

import os

import pynvml


def count_gpus() -> tuple[int, str]:
    """GPUs this process may use and, if none, why. Asks NVML."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return 0, "CUDA_VISIBLE_DEVICES is empty"
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return 0, f"no NVIDIA driver ({error})"
    if visible is not None:
        count = min(count, len(visible.split(",")))
    return count, "" if count else "the driver finds no GPU"


def gpu_memory_bytes() -> int:
    """Memory of the smallest GPU of this machine; 0 without one. Asks NVML."""
    try:
        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        sizes = [int(pynvml.nvmlDeviceGetMemoryInfo(gpu).total) for gpu in gpus]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
    return min(sizes, default=0)


def dask_cuda_missing() -> str:
    """Why dask-cuda cannot be used, or nothing."""
    try:
        import dask_cuda  # noqa: F401
    except ImportError as error:
        return f"dask-cuda cannot be imported ({error}); install virnuc-dask[gpu-cu13]"
    return ""
