"""What workers have decides, not what the client has."""

from importlib.metadata import PackageNotFoundError
from unittest.mock import AsyncMock

import pytest
from distributed import Client, LocalCluster

from virnuc_dask.cluster import hardware
from virnuc_dask.cluster.connect import reached
from virnuc_dask.cluster.hardware import Hardware, ask_workers, check_versions, hardware_of
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.encoders.processor import AVX2, AVX512, Processor
from virnuc_dask.errors import NoClusterError
from virnuc_dask.run import run

OLD, NEW = Processor(AVX2, multiplies_bf16=False), Processor(AVX512, multiplies_bf16=True)


@pytest.fixture
def workers_have(monkeypatch):
    """Says what the two workers have."""

    def have(*machines: Hardware) -> None:
        left = iter(machines)
        monkeypatch.setattr(hardware, "hardware_here", lambda: next(left))

    return have


@pytest.mark.parametrize(
    ("machines", "asked", "expected"),
    [
        ([("cpu", NEW), ("cpu", NEW)], "auto", ("cpu", NEW)),
        ([("cpu", NEW), ("cpu", OLD)], "auto", ("cpu", OLD)),
        ([("cuda", NEW), ("cuda", OLD)], "auto", ("cuda", OLD)),
        ([("cuda", NEW), ("cpu", OLD)], "auto", ("cuda", NEW)),
        ([("cuda", NEW), ("cpu", OLD)], "cpu", ("cpu", OLD)),
        ([("cpu", OLD), ("cuda", NEW)], "cuda", ("cuda", NEW)),
    ],
)
def test_the_weakest_worker_that_computes_decides(client, workers_have, machines, asked, expected):
    workers_have(*(Hardware(*machine) for machine in machines))
    settings = ClusterSettings(kind="none", device=asked)
    assert hardware_of(settings, client) == Hardware(*expected)


def test_a_gpu_that_no_worker_has_is_refused(client, workers_have):
    workers_have(Hardware("cpu", NEW), Hardware("cpu", NEW))
    with pytest.raises(NoClusterError, match="no CUDA GPU on any worker"):
        hardware_of(ClusterSettings(device="cuda"), client)


def test_a_worker_without_torch_is_told(client, monkeypatch):
    def missing() -> Hardware:
        raise ModuleNotFoundError("No module named 'torch'")

    monkeypatch.setattr(hardware, "hardware_here", missing)
    with pytest.raises(NoClusterError, match="No module named 'torch'"):
        hardware_of(ClusterSettings(), client)


def test_without_a_running_cluster_this_machine_is_asked(monkeypatch):
    monkeypatch.setattr(hardware, "this_processor", lambda: OLD)
    settings = ClusterSettings(kind="none", device="cpu")
    with reached(settings) as client:
        assert client is None
        assert hardware_of(settings, client) == Hardware("cpu", OLD)


def test_workers_that_go_away_do_not_answer(client, monkeypatch):
    answers = {"one": 1, "two": OSError("gone")}
    monkeypatch.setattr(client, "run", AsyncMock(return_value=answers))
    assert ask_workers(client, len) == {"one": 1}
    answers["three"] = KeyError("a bug")
    with pytest.raises(KeyError):
        ask_workers(client, len)


def test_another_version_on_the_workers_is_refused_with_both(client, monkeypatch):
    monkeypatch.setattr(client, "run", AsyncMock(return_value={"tcp://there": "0.0.9"}))
    with pytest.raises(NoClusterError, match=r"worker tcp://there has .* 0\.0\.9, this run 0\.2"):
        check_versions(client)


def test_a_cluster_without_this_program_is_refused(client, monkeypatch):
    def missing(*_, **__):
        raise PackageNotFoundError("virnuc-dask")

    monkeypatch.setattr(client, "run", missing)
    with pytest.raises(NoClusterError, match="without virnuc_dask; install 0"):
        check_versions(client)


@pytest.fixture
def empty_cluster():
    with LocalCluster(
        n_workers=0, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


def test_no_worker_within_the_time_is_told(empty_cluster):
    settings = ClusterSettings(worker_timeout_s=0.5)
    with (
        Client(empty_cluster) as client,
        pytest.raises(NoClusterError, match="no worker came to inproc"),
    ):
        hardware_of(settings, client)


def test_a_cluster_that_grows_with_its_tasks_grows_for_a_run(empty_cluster, tmp_path):
    (tmp_path / "in.fa").write_text(">a\n" + "ACGTTG" * 100 + "\n")
    empty_cluster.adapt(minimum=0, maximum=1, interval="50ms")
    settings = Settings(cluster=ClusterSettings(device="cpu", worker_timeout_s=60))
    with Client(empty_cluster) as client:
        assert not client.nthreads()
        done = run([tmp_path / "in.fa"], tmp_path / "out", settings=settings, client=client)
    assert done.summary["partitions"]["computed"] == 1
