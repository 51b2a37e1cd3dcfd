"""What workers have decides, not what the client has."""

from importlib.metadata import PackageNotFoundError
from unittest.mock import AsyncMock, Mock

import pytest
from distributed import Client, LocalCluster

from virnuc_dask.cluster import hardware
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


def test_what_workers_lack_is_told(client, workers_have, monkeypatch):
    workers_have(Hardware("cpu", NEW), Hardware("cpu", NEW))
    with pytest.raises(NoClusterError, match="no CUDA GPU on any worker"):
        hardware_of(ClusterSettings(device="cuda"), client)
    monkeypatch.setattr(hardware, "hardware_here", Mock(side_effect=ImportError("No 'torch'")))
    with pytest.raises(NoClusterError, match="a worker cannot compute: No 'torch'"):
        hardware_of(ClusterSettings(), client)
    monkeypatch.setattr(client, "run", Mock(side_effect=PackageNotFoundError("virnuc-dask")))
    with pytest.raises(NoClusterError, match="without virnuc_dask; install 0"):
        check_versions(client)


def test_workers_that_go_away_do_not_answer(client, monkeypatch):
    answers = {"one": 1, "two": OSError("gone")}
    monkeypatch.setattr(client, "run", AsyncMock(return_value=answers))
    assert ask_workers(client, len) == {"one": 1}
    answers["three"] = KeyError("a bug")
    with pytest.raises(KeyError):
        ask_workers(client, len)


def test_a_cluster_that_grows_with_its_tasks_grows_for_a_run(tmp_path):
    (tmp_path / "in.fa").write_text(">a\n" + "ACGTTG" * 100 + "\n")
    place = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=0, processes=False, **place) as cluster, Client(cluster) as client:
        with pytest.raises(NoClusterError, match="no worker came to inproc"):
            hardware_of(ClusterSettings(worker_timeout_s=0.5), client)
        cluster.adapt(minimum=0, maximum=1, interval="50ms")
        settings = Settings(cluster=ClusterSettings(device="cpu", worker_timeout_s=60))
        done = run([tmp_path / "in.fa"], tmp_path / "out", settings=settings, client=client)
    assert done.summary["partitions"]["computed"] == 1
