import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from virnuc_dask.cluster import connect as connecting
from virnuc_dask.cluster.connect import Connection, connect, local_workers
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


def test_auto_falls_back_to_the_cpu_with_one_line(no_gpu):
    settings = ClusterSettings(workers=1, dashboard_port=0)
    with connect(settings, weight_bytes=0) as connection:
        assert connection.kind == "cpu"
        assert connection.settings.device == "cpu"
        assert connection.note == "No GPU workers: no NVIDIA driver (none). Using the CPU."
        assert "\n" not in str(connection)


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


ALLOCATION = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")


def test_workers_keep_their_memory_between_two_batches(monkeypatch):
    for name in ALLOCATION:
        monkeypatch.delenv(name, raising=False)
    settings = ClusterSettings(kind="cpu", workers=1, dashboard_port=0)
    with connect(settings, weight_bytes=0) as connection:
        found = {name: connection.client.run(os.environ.get, name) for name in ALLOCATION}
    assert {name: list(values.values()) for name, values in found.items()} == {
        "MALLOC_TRIM_THRESHOLD_": [None],
        "MALLOC_ARENA_MAX": ["1"],
    }


def test_workers_do_not_fill_their_memory_with_profiles():
    with connect(ClusterSettings(kind="cpu", workers=1, dashboard_port=0), 0) as connection:
        found = connection.client.run(profile_times)
    assert list(found.values()) == [(0.1, 60)]


def profile_times(dask_worker) -> tuple[float, float]:
    """Seconds between two looks at a worker's stack, and between two profiles that it keeps."""
    callbacks = dask_worker.periodic_callbacks
    return tuple(callbacks[name].callback_time / 1000 for name in ("profile", "profile-cycle"))


def test_cpu_asked_for_needs_no_note(four_gpus):
    kind, settings, note = connecting._decide(ClusterSettings(device="cpu"))
    assert (kind, settings.device, note) == ("cpu", "cpu", "")


def test_auto_takes_the_gpus(four_gpus):
    assert connecting._decide(ClusterSettings()) == ("cuda", ClusterSettings(), "")


def test_auto_without_dask_cuda_says_what_to_install(four_gpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    kind, _, note = connecting._decide(ClusterSettings())
    assert kind == "cpu"
    assert "virnuc-dask[gpu-cu13]" in note


def test_cuda_is_refused_with_the_reason_without_a_gpu(no_gpu):
    with (
        pytest.raises(NoClusterError, match=r"--cluster cuda: no NVIDIA driver"),
        connect(ClusterSettings(kind="cuda"), weight_bytes=0),
    ):
        pass


def test_a_gpu_device_without_a_gpu_is_refused(no_gpu):
    with pytest.raises(NoClusterError, match="--device cuda"):
        connecting._decide(ClusterSettings(device="cuda"))


def test_cuda_starts_one_worker_a_gpu_over_tcp_on_loopback(started_cuda):
    started = started_cuda(ClusterSettings(kind="cuda", dashboard_port=0))
    assert started["n_workers"] == 4
    assert started["threads_per_worker"] == 3, "one is prepared, one computes, one is written"
    assert started["protocol"] == "tcp"
    assert started["device_memory_limit"] is None, "torch's allocator alone: no spilling"
    assert started["host"] == "127.0.0.1"
    assert started["dashboard_address"].startswith("127.0.0.1:")
    assert not [name for name in started if name.startswith("rmm")]


@pytest.mark.parametrize(("gigabytes", "at_once"), [(80, 3), (8, 3), (6, 16)])
def test_more_partitions_share_a_change_of_encoders_where_a_gpu_may_hold_only_one(
    started_cuda, monkeypatch, gigabytes, at_once
):
    monkeypatch.setattr(connecting, "gpu_memory_bytes", lambda: gigabytes * 10**9)
    started = started_cuda(ClusterSettings(kind="cuda", dashboard_port=0), weight_bytes=5 * 10**9)
    assert started["threads_per_worker"] == at_once


def test_a_worker_is_sent_one_partition_more_than_it_has_in_work():
    def in_flight(**settings: int) -> int:
        return Connection(None, "cuda", ClusterSettings(**settings)).in_flight

    assert in_flight() == 3
    assert in_flight(partitions_at_once=2) == 3
    assert in_flight(partitions_at_once=16) == 17
    assert in_flight(partitions_at_once=2, partitions_in_flight=8) == 8


def test_the_allocator_is_set_before_the_gpu_workers_start(started_cuda):
    environment = started_cuda(ClusterSettings(kind="cuda", dashboard_port=0))["environment"]
    assert environment["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert environment["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"


def test_fewer_gpu_workers_can_be_asked_for_but_not_more(started_cuda):
    assert started_cuda(ClusterSettings(kind="cuda", workers=2))["n_workers"] == 2
    with (
        pytest.raises(NoClusterError, match="5 GPU workers were asked for, but there are 4"),
        connect(ClusterSettings(kind="cuda", workers=5), weight_bytes=0),
    ):
        pass


def test_the_real_dask_cuda_takes_these_arguments():
    """Its signature, read from the package that is installed: a renamed argument shows here."""
    import inspect

    from dask_cuda import LocalCUDACluster

    known = inspect.signature(LocalCUDACluster).parameters
    assert {"n_workers", "threads_per_worker", "protocol", "device_memory_limit"} <= set(known)


def test_a_running_cluster_is_used_and_left_running(tmp_path):
    from distributed import Client, LocalCluster

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
        with dask_address(cluster.scheduler_address), connect(ClusterSettings(), 0) as connection:
            assert connection.kind == "given"
        with Client(cluster) as client:
            assert client.submit(sum, [1, 2]).result() == 3


def test_a_kind_and_a_running_cluster_exclude_each_other():
    settings = ClusterSettings(kind="cpu", scheduler="tcp://127.0.0.1:8786")
    with pytest.raises(NoClusterError, match="starts its own cluster"):
        connecting._decide(settings)


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


def dask_address(address: str):
    import dask

    return dask.config.set({"scheduler-address": address})


def test_workers_and_their_threads_are_those_of_the_container(monkeypatch, started_cuda):
    limit(monkeypatch, cores=64, gigabytes=8)
    assert local_workers(ClusterSettings(), weight_bytes=0) == (8, 8), "by its memory"
    limit(monkeypatch, cores=2, gigabytes=8)
    assert local_workers(ClusterSettings(), weight_bytes=0) == (2, 1), "by its share of the cores"
    settings = ClusterSettings(kind="cuda", dashboard_port=0)
    monkeypatch.setattr(connecting, "_count_gpu_workers", lambda _: 1)
    assert connecting_threads(monkeypatch, settings) == 2
    assert (describe()["cores"], describe()["memory_gb"]) == (2, 8.0)


def connecting_threads(monkeypatch, settings: ClusterSettings) -> int | None:
    """Torch threads of a GPU worker."""
    monkeypatch.setattr("dask_cuda.LocalCUDACluster", lambda **_: None)
    return connecting._start_cuda(settings, 0, None)[1].threads


def test_memory_that_a_process_may_not_use_is_not_counted():
    """Asked in a process that is really limited, as batch systems do it."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_RSS, (3 * 10**9,) * 2)\n"
        "from virnuc_dask.cluster.connect import memory_bytes; print(memory_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == str(3 * 10**9), done.stderr
