"""What a worker tells Prometheus, at its ``/metrics``. Workers in one process share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psutil
from prometheus_client import Counter, Gauge

from virnuc_dask.cluster.gpus import gpu_celsius, gpu_use
from virnuc_dask.stages.receipt import Receipt

_WORKER = ["worker"]
_PARTITIONS = Counter("virnuc_worker_partitions", "Partitions computed.", _WORKER)
_CHUNKS = Counter("virnuc_chunks", "Chunks, or pieces, computed.", _WORKER)
_FAILED = Counter("virnuc_failed_chunks", "Chunks, or pieces, that failed.", _WORKER)
_FRAMES = Counter("virnuc_frames", "Frames, or genes, scored.", _WORKER)
_VIRAL = Counter("virnuc_viral_frames", "Frames, or genes, called virus.", _WORKER)
_STAGES = Counter("virnuc_stage_seconds", "Time spent, by stage.", [*_WORKER, "stage"])
_IDLE = Counter(
    "virnuc_device_idle_seconds", "Time that the device waited for partitions.", _WORKER
)
_LOADS = Counter("virnuc_modelset_loads", "Loads of the model set.", _WORKER)
_LOAD_S = Counter("virnuc_modelset_load_seconds", "Time spent loading the model set.", _WORKER)
_CLEARED = Counter("virnuc_cache_clears", "Times that cached GPU memory was given back.", _WORKER)
_WEIGHTS = Gauge("virnuc_modelset_bytes", "Weights in memory; 0 without a model set.", _WORKER)
_MEMORY = Gauge(
    "virnuc_memory_bytes", "Memory: resident in the process, torch's on the GPU.", [*_WORKER, "of"]
)
_USE = Gauge("virnuc_gpu_utilization_ratio", "Share of time in which the GPU computed.", _WORKER)
_CELSIUS = Gauge("virnuc_gpu_temperature_celsius", "Temperature of the GPU.", _WORKER)


def count_receipt(worker: str, receipt: Receipt) -> None:
    """Count a partition that this worker computed."""
    _PARTITIONS.labels(worker).inc()
    _CHUNKS.labels(worker).inc(receipt.chunks)
    _FAILED.labels(worker).inc(sum(failure.chunks for failure in receipt.failures))
    _FRAMES.labels(worker).inc(receipt.frames)
    _VIRAL.labels(worker).inc(receipt.viral)
    _IDLE.labels(worker).inc(receipt.device_idle_s)
    for stage, elapsed_s in receipt.elapsed_s.items():
        _STAGES.labels(worker, stage).inc(elapsed_s)


def count_event(worker: str, event: Mapping[str, Any]) -> None:
    """Count what a model set tells of itself; see `Lifetime`."""
    if event["event"] == "modelset_loaded":
        _LOADS.labels(worker).inc()
        _LOAD_S.labels(worker).inc(event["elapsed_s"])
        _WEIGHTS.labels(worker).set(event["weight_bytes"])
        _measure(worker, event["device"])
    elif event["event"] == "modelset_released":
        _WEIGHTS.labels(worker).set(0)
    elif event["event"] == "cache_cleared":
        _CLEARED.labels(worker).inc()


def gpu_metrics(event: Mapping[str, Any]) -> dict[str, Callable[[object], float]]:
    """What a worker's heartbeats tell besides Dask's own, once its model set is on a GPU."""
    device = event.get("device", "cpu")
    return {} if device == "cpu" else {"gpu_celsius": lambda _: gpu_celsius(device)}


def _measure(worker: str, device: str) -> None:
    """Have memory and GPU measured whenever they are asked for."""
    process = psutil.Process()
    _MEMORY.labels(worker, "process").set_function(lambda: process.memory_info().rss)
    if device == "cpu":
        return
    from virnuc_dask.modelsets.modelset import memory_bytes

    _MEMORY.labels(worker, "gpu").set_function(partial(memory_bytes, "cuda"))
    _USE.labels(worker).set_function(partial(gpu_use, device))
    _CELSIUS.labels(worker).set_function(partial(gpu_celsius, device))
