import inspect
import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import dask
import pytest
from distributed import Client, LocalCluster

from virnuc_dask.cluster import connect as connecting
from virnuc_dask.cluster.connect import (
    Connection,
    connect,
    device_of,
    local_workers,
    refuse_impossible,
)
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import NoClusterError
from virnuc_dask.lab.speed.machine import describe


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(connecting, "count_gpus", lambda: (0, "no NVIDIA driver (none)"))


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(connecting, "count_gpus", lambda: (4, ""))


@pytest.fixture
def started_cuda(monkeypatch, four_gpus):
    """What LocalCUDACluster was given, and the environment it was started in."""
    started = {}

    class StoppedError(Exception):
        pass

    def start(**arguments):
        started.update(arguments, environment=dict(os.environ))
        raise StoppedError

    monkeypatch.setattr("dask_cuda.LocalCUDACluster", start)
    monkeypatch.setattr(connecting, "gpu_memory_bytes", lambda: 80_000_000_000)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)

    def begin(settings: ClusterSettings, weight_bytes: int = 0) -> dict:
        with pytest.raises(StoppedError), connect(settings, weight_bytes):
            pass
        return started

    yield begin
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        os.environ.pop(name, None)


def test_none_is_this_process():
    with connect(ClusterSettings(kind="none"), weight_bytes=0) as connection:
        assert connection.client is None
        assert connection.workers == 1
        assert str(connection) == "In this process, without Dask workers."


def test_a_worker_that_takes_long_to_end_does_not_spoil_the_run(monkeypatch):
    closed = []

    def close(timeout):
        closed.append(timeout < 120)
        raise TimeoutError

    cluster = SimpleNamespace(close=close)
    monkeypatch.setattr(connecting, "_start_cpu", lambda settings, *_: (cluster, settings))
    monkeypatch.setattr(connecting, "_wait_for_workers", lambda *_: None)
    monkeypatch.setattr(connecting, "Client", lambda _: cluster)
    with connect(ClusterSettings(kind="cpu"), weight_bytes=0) as connection:
        assert connection.kind == "cpu"
    assert closed == [True, True], "client and cluster, within a time of our own"


def workers_have(dask_worker) -> tuple[object, ...]:
    """How a worker keeps memory; seconds between looks at its stack, and between profiles kept."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
    times = (dask_worker.periodic_callbacks[name] for name in ("profile", "profile-cycle"))
    return (*map(os.environ.get, names), *(each.callback_time / 1000 for each in times))


def logs_kept(dask_scheduler) -> set[int]:
    """How many messages to each worker a scheduler keeps."""
    return {each.recent_message_log.maxlen for each in dask_scheduler.stream_comms.values()}


def test_auto_falls_back_to_the_cpu_with_workers_as_we_want_them(no_gpu, monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"):
        monkeypatch.delenv(name, raising=False)
    with connect(ClusterSettings(workers=1, dashboard_port=0), weight_bytes=0) as connection:
        assert (connection.kind, connection.settings.device) == ("cpu", "cpu")
        assert connection.note == "No GPU workers: no NVIDIA driver (none). Using the CPU."
        found = connection.client.run(workers_have)
        assert connection.client.run_on_scheduler(logs_kept) == {100}
    assert list(found.values()) == [(None, "1", 0.1, 60)]


def test_what_computes_is_decided_by_what_is_there(four_gpus, monkeypatch):
    assert device_of(ClusterSettings()) == "cuda"
    assert device_of(ClusterSettings(device="cpu")) == "cpu"
    with pytest.raises(NoClusterError, match="5 GPU workers were asked for, but there are 4"):
        refuse_impossible(ClusterSettings(kind="cuda", workers=5))
    with pytest.raises(NoClusterError, match="starts its own cluster"):
        refuse_impossible(ClusterSettings(kind="cpu", scheduler="tcp://127.0.0.1:8786"))
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    assert device_of(ClusterSettings()) == "cpu"
    with pytest.raises(NoClusterError, match=r"install virnuc-dask\[gpu-cu13\]"):
        refuse_impossible(ClusterSettings(device="cuda"))


@pytest.mark.parametrize(("gigabytes", "at_once"), [(80, 3), (8, 3), (6, 16)])
def test_cuda_starts_one_worker_a_gpu_over_tcp_on_loopback(
    started_cuda, monkeypatch, gigabytes, at_once
):
    """More partitions share a change of encoders where a GPU may hold only one of them."""
    monkeypatch.setattr(connecting, "gpu_memory_bytes", lambda: gigabytes * 10**9)
    started = started_cuda(ClusterSettings(kind="cuda", dashboard_port=0), weight_bytes=5 * 10**9)
    environment = started.pop("environment")
    assert started.pop("dashboard_address").startswith("127.0.0.1:")
    assert started == {
        "n_workers": 4,
        "threads_per_worker": at_once,
        "protocol": "tcp",
        "device_memory_limit": None,  # torch's allocator alone: no spilling, no RMM
        "host": "127.0.0.1",
        "preload": ["virnuc_dask.cluster.interrupts"],
    }
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        assert environment[name] == "expandable_segments:True"
    assert started_cuda(ClusterSettings(kind="cuda", workers=2))["n_workers"] == 2


def test_a_worker_is_sent_one_partition_more_than_it_has_in_work():
    def in_flight(**settings: int) -> int:
        return Connection(None, "cuda", ClusterSettings(**settings)).in_flight

    assert in_flight() == 3
    assert in_flight(partitions_at_once=2) == 3
    assert in_flight(partitions_at_once=16) == 17
    assert in_flight(partitions_at_once=2, partitions_in_flight=8) == 8


def test_the_real_dask_cuda_takes_these_arguments():
    """Its signature, read from the package that is installed: a renamed argument shows here."""
    dask_cuda = pytest.importorskip("dask_cuda")
    known = inspect.signature(dask_cuda.LocalCUDACluster).parameters
    assert {"n_workers", "threads_per_worker", "protocol", "device_memory_limit"} <= set(known)


def test_a_running_cluster_is_used_and_left_running(tmp_path):
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        with connect(ClusterSettings(scheduler=cluster.scheduler_address), 0) as connection:
            assert connection.kind == "given"
        file = tmp_path / "scheduler.json"
        with Client(cluster) as client:
            client.write_scheduler_file(str(file))
        with connect(ClusterSettings(scheduler_file=str(file)), 0) as connection:
            assert connection.workers == 1
        named = dask.config.set({"scheduler-address": cluster.scheduler_address})
        with named, connect(ClusterSettings(), 0) as connection:
            assert connection.kind == "given"
        with Client(cluster) as client:
            assert client.submit(sum, [1, 2]).result() == 3


def limit(monkeypatch, cores: int, gigabytes: int) -> None:
    """What Dask finds in the cgroup of a container, on a larger machine."""
    monkeypatch.setattr("dask.system.CPU_COUNT", cores)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", gigabytes * 10**9)


def test_large_models_get_fewer_workers(monkeypatch):
    limit(monkeypatch, cores=16, gigabytes=64)
    assert local_workers(ClusterSettings(), weight_bytes=3_000_000) == (16, 1)
    assert local_workers(ClusterSettings(), weight_bytes=6_000_000_000) == (5, 3), "15 of 16 cores"
    assert local_workers(ClusterSettings(), weight_bytes=12_000_000_000) == (3, 5)
    assert local_workers(ClusterSettings(), weight_bytes=90_000_000_000) == (1, 16)
    assert local_workers(replace(ClusterSettings(), workers=4), weight_bytes=0) == (4, 4)
    assert local_workers(ClusterSettings(), weight_bytes=0, partitions=3) == (3, 5), "enough"
    assert local_workers(replace(ClusterSettings(), workers=4), 0, partitions=1) == (4, 4)


def test_workers_and_their_threads_are_those_of_the_container(monkeypatch):
    limit(monkeypatch, cores=64, gigabytes=8)
    assert local_workers(ClusterSettings(), weight_bytes=0) == (8, 8), "by its memory"
    limit(monkeypatch, cores=2, gigabytes=8)
    assert local_workers(ClusterSettings(), weight_bytes=0) == (2, 1), "by its share of the cores"
    assert (describe()["cores"], describe()["memory_gb"]) == (2, 8.0)
