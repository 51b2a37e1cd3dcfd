from argparse import Namespace

import pynvml

from virnuc_dask.cluster.gpus import count_gpus, gpu_memory_bytes


def test_an_empty_list_of_visible_gpus_is_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == (0, "CUDA_VISIBLE_DEVICES is empty")


def test_gpus_are_counted_by_the_driver_and_the_visible_ones(monkeypatch):
    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert count_gpus() == (8, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert count_gpus() == (2, "")


def test_the_smallest_gpu_counts_and_without_a_driver_there_is_none(monkeypatch):
    gigabytes = (80, 24)
    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(gigabytes))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda number: number)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: Namespace(total=gigabytes[gpu] * 10**9)
    )
    assert gpu_memory_bytes() == 24 * 10**9

    def no_driver():
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert gpu_memory_bytes() == 0
