"""What a figure was measured on, and with which versions."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pynvml

from virnuc_dask.cluster.connect import memory_bytes
from virnuc_dask.cluster.gpus import ask_gpus
from virnuc_dask.config import cores
from virnuc_dask.encoders.processor import this_processor


def describe() -> dict[str, object]:
    """The machine, its load and the date, as one part of a result's JSON."""
    processor = this_processor()
    return {
        "cpu": _cpu_model(),
        "instructions": processor.instructions,
        "multiplies_bf16": processor.multiplies_bf16,
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "gpus": ask_gpus(lambda gpu: str(pynvml.nvmlDeviceGetName(gpu))),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def versions(*packages: str) -> dict[str, str | None]:
    """Versions of Python, of this package and its engines, and of ``packages``."""
    names = ("virnuc-dask", "torch", "dask", "numpy", *packages)
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def gpu_used_bytes() -> int:
    """Memory in use on all GPUs, whoever uses it; 0 without one. CUDA is not started for it."""
    return sum(ask_gpus(lambda gpu: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used)))


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
