import json
import os
import signal
import time
from types import SimpleNamespace

import dask.config
import pytest
from dask.delayed import delayed
from distributed import Client, LocalCluster

from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.execute import execute_on, executing
from virnuc_dask.cluster.monitor import Journal
from virnuc_dask.cluster.plugin import ResidenceSettings
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadTableError, ModelSetError, NoClusterError
from virnuc_dask.modelsets.registry import read_info
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.receipt import Failure, Receipt

LIMITS = {"in_flight": 3, "worker_timeout_s": 30.0}


def work(index: int, error: BaseException | None = None) -> Receipt:
    """A partition's chain, in place of the real one."""
    if error is not None:
        raise error
    return Receipt(index, 1, 1, 0, 0)


def work_slowly(index: int) -> Receipt:
    time.sleep(0.2)
    return work(index)


def chains(count: int, errors: dict[int, BaseException] | None = None):
    for index in range(count):
        task = SimpleNamespace(index=index)
        yield task, delayed(work, pure=False)(index, (errors or {}).get(index))


def test_every_partition_comes_back_once(client):
    outcomes = list(execute_on(client, chains(40), **LIMITS))
    assert sorted(outcome.partition for outcome in outcomes) == list(range(40))


def test_no_partitions_is_no_work(client):
    assert list(execute_on(client, chains(0), **LIMITS)) == []


def test_only_a_window_of_partitions_is_submitted(client):
    taken = 0

    def counted():
        nonlocal taken
        for pair in chains(40):
            taken += 1
            yield pair

    ahead = [
        taken - done for done, _ in enumerate(execute_on(client, counted(), **LIMITS), start=1)
    ]
    assert max(ahead) <= 3 * 2, "three partitions a worker"
    assert max(ahead) > 1, "workers are kept busy"


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("out of memory"), BadTableError("bad")],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_partition_is_reported_and_the_others_are_done(client, error):
    outcomes = list(execute_on(client, chains(10, {4: error}), **LIMITS))
    (failure,) = (outcome for outcome in outcomes if isinstance(outcome, Failure))
    assert failure.partition == 4
    assert str(error) in failure.reason
    assert len(outcomes) == 10


@pytest.mark.parametrize("error", [KeyError("a bug"), ModelSetError("no model set here")])
def test_what_is_no_fault_of_a_partition_ends_the_run(client, error):
    with pytest.raises(type(error)):
        list(execute_on(client, chains(10, {4: error}), **LIMITS))


def test_a_run_that_ends_early_cancels_what_it_submitted(client):
    slow = ((SimpleNamespace(index=i), delayed(work_slowly, pure=False)(i)) for i in range(10))
    outcomes = execute_on(client, slow, **LIMITS)
    next(outcomes)
    assert "pending" in {future.status for future in client.futures.values()}
    outcomes.close()
    assert "pending" not in {future.status for future in client.futures.values()}


def test_a_cluster_without_workers_is_told_after_a_while():
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        pytest.raises(NoClusterError, match="no worker for 0 s"),
    ):
        list(execute_on(client, chains(3), in_flight=3, worker_timeout_s=0.2))


def poison(index: int) -> Receipt:
    """Kills the worker that touches partition 2."""
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(index)


def test_a_partition_that_kills_its_workers_is_reported_and_the_others_are_done():
    tasks = [(SimpleNamespace(index=i), delayed(poison, pure=False)(i)) for i in range(6)]
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        outcomes = list(execute_on(client, iter(tasks), in_flight=1, worker_timeout_s=60))
    (failure,) = (outcome for outcome in outcomes if isinstance(outcome, Failure))
    assert failure.partition == 2
    assert "worker died" in failure.reason
    assert len(outcomes) == 6


def test_a_cluster_that_goes_away_is_told():
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster.scheduler_address) as client,
    ):
        slow = ((SimpleNamespace(index=i), delayed(work_slowly, pure=False)(i)) for i in range(99))
        outcomes = execute_on(client, slow, in_flight=3, worker_timeout_s=5)
        next(outcomes)
        cluster.close()
        with pytest.raises(NoClusterError, match="--resume"):
            list(outcomes)


@pytest.mark.parametrize("kind", ["none", "given"])
def test_the_model_set_is_released_when_a_run_ends_with_an_error(
    client, parity_modelset, tmp_path, kind
):
    connection = Connection(None if kind == "none" else client, kind, ClusterSettings())
    source = ModelSource.of(str(parity_modelset), read_info(parity_modelset))
    mode = ResidenceSettings(persistent=True, clear_cache_every=50)

    def run_into_an_error(journal: Journal) -> None:
        with executing([], connection, source, mode, journal):
            raise KeyError("in the middle")

    with Journal.opened(tmp_path / "log") as journal, pytest.raises(KeyError):
        run_into_an_error(journal)
    kinds = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    loads = connection.workers
    assert kinds == ["modelset_loaded"] * loads + ["modelset_released"] * loads
