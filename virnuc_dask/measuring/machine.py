"""What a figure was measured on, and with which versions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pynvml


def describe() -> dict[str, object]:
    """The machine, its load and the date, as one part of a result's JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _gpu_names(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def versions(*packages: str) -> dict[str, str | None]:
    """Versions of Python, of this package and its engines, and of ``packages``."""
    names = ("virnuc-dask", "torch", "dask", "numpy", *packages)
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def gpu_used_bytes() -> int:
    """Memory in use on all GPUs, whoever uses it; 0 without one. CUDA is not started for it."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        used = sum(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles)
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return 0
    return used


def _gpu_names() -> list[str]:
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        names = [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return []
    return names


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
