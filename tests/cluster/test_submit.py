import json
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.config
import pytest
from dask.delayed import Delayed, delayed
from distributed import Client, LocalCluster, get_worker

from virnuc_dask.cluster import submit, worker_watch
from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.retries import Retries
from virnuc_dask.cluster.submit import execute_on, executing
from virnuc_dask.cluster.worker_watch import WorkerWatch
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import (
    ModelSetError,
    NoClusterError,
    WorkerRefusedError,
)
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.receipt import Receipt
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask


def cluster_of(workers: int, *, processes: bool = True) -> LocalCluster:
    place = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    return LocalCluster(n_workers=workers, processes=processes, **place)


def started(
    client: Client,
    retries: Retries,
    graph_of: Callable[[PartitionTask], Delayed],
    journal: Journal,
    timeout_s: float = 30.0,
) -> Generator[Receipt]:
    """Three partitions a worker at a time."""
    watch = WorkerWatch(client, journal, timeout_s)
    return execute_on(client, retries, graph_of, watch, in_flight=3)


def work(task: PartitionTask) -> Receipt:
    """A partition's chain, in place of the real one."""
    return Receipt(task.index, task.chunks, 1, 0, 0, {"work": 1.0})


def work_slowly(task: PartitionTask) -> Receipt:
    time.sleep(0.2)
    return work(task)


def tasks(folder: Path, count: int) -> Iterator[PartitionTask]:
    """Partitions of one chunk: what fails, fails at once."""
    for index in range(count):
        yield PartitionTask(RunFolder(folder), index, 1, "c", "f", "p", True)


def graph(function: Callable[..., Receipt], *args: object) -> Callable[[PartitionTask], Delayed]:
    return lambda task: delayed(function, pure=False)(task, *args)


def test_every_partition_comes_back_once_and_only_a_window_is_submitted(client, journal, tmp_path):
    taken = []

    def counted(task: PartitionTask) -> Delayed:
        taken.append(task)
        return graph(work)(task)

    came, ahead = [], []
    for receipt in started(client, Retries(tasks(tmp_path, 40)), counted, journal):
        ahead.append(len(taken) - len(came))
        came.append(receipt.partition)
    assert sorted(came) == list(range(40))
    assert 1 < max(ahead) <= 3 * 2, "workers are kept busy, with three partitions each"


def test_what_can_be_sent_at_a_time_is_sent_at_once(client, journal, tmp_path, monkeypatch):
    sent, compute = [], client.compute

    def counted(graphs: list[Delayed], **options: Any) -> Any:
        sent.append(len(graphs))
        return compute(graphs, **options)

    monkeypatch.setattr(client, "compute", counted)
    receipts = started(client, Retries(tasks(tmp_path, 20)), graph(work), journal)
    next(receipts)
    assert sent == [6]
    time.sleep(1)  # all of those are done by then
    assert len([next(receipts) for _ in range(6)]) == 6
    assert len(sent) <= 3
    assert len(list(receipts)) == 13


def test_workers_are_asked_for_now_and_then_and_those_refused_known_at_once(journal, monkeypatch):
    asked = []

    def answer(*_: object) -> dict[str, int]:
        asked.append(1)
        return {"tcp://a": 1, f"tcp://{len(asked)}": 1}

    monkeypatch.setattr(worker_watch, "answer", answer)
    watch = WorkerWatch(SimpleNamespace(nthreads=None), journal, 30.0)
    for _ in range(5):
        watch.look()
    assert (len(asked), watch.fit, watch.room(3)) == (1, ["tcp://a", "tcp://1"], 6)
    watch.refuse(WorkerRefusedError(ModelSetError("damaged"), "tcp://a"))
    watch.look()
    assert (watch.fit, watch.beside_refused) == (["tcp://1"], True)
    monkeypatch.setattr(worker_watch, "_LOOK_S", 0.0)
    watch.look()
    assert watch.fit == ["tcp://2"]


def test_a_run_that_ends_early_cancels_what_it_submitted(client, journal, tmp_path):
    receipts = started(client, Retries(tasks(tmp_path, 10)), graph(work_slowly), journal)
    next(receipts)
    assert "pending" in {future.status for future in client.futures.values()}
    receipts.close()
    assert "pending" not in {future.status for future in client.futures.values()}


def test_a_cluster_without_workers_is_told_after_a_while(journal, tmp_path):
    retries = Retries(tasks(tmp_path, 3))
    with cluster_of(0, processes=False) as cluster, Client(cluster) as client:
        receipts = started(client, retries, graph(work), journal, 0.2)
        with pytest.raises(NoClusterError, match="no worker for 0 s"):
            list(receipts)


def refuse_on(task: PartitionTask, *names: int) -> Receipt:
    worker = get_worker()
    if worker.name in names:
        raise WorkerRefusedError(ModelSetError(f"worker {worker.name}: damaged."), worker.address)
    time.sleep(0.02)
    return work(task)


def test_where_no_worker_can_compute_the_run_ends_with_the_reason(client, journal, tmp_path):
    receipts = started(client, Retries(tasks(tmp_path, 3)), graph(refuse_on, 0, 1), journal, 0.5)
    with pytest.raises(ModelSetError, match=r"no worker can compute: worker \d: damaged"):
        list(receipts)


def never_begins(task: PartitionTask) -> Receipt:
    """Kills its worker before anything is computed, as a model set too large for it would."""
    os.kill(os.getpid(), signal.SIGKILL)
    return work(task)


def test_workers_that_die_before_they_compute_anything_end_the_run(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_watch, "_LIVES", 2)
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}),  # as `connect` does
        cluster_of(1) as cluster,
        Client(cluster) as client,
    ):
        receipts = started(client, Retries(tasks(tmp_path, 1)), graph(never_begins), journal, 5)
        with pytest.raises(NoClusterError, match=r"workers die before they|no worker for"):
            list(receipts)


def test_a_receipt_that_does_not_come_is_made_again(tmp_path):
    def result(timeout: float) -> Receipt:
        raise TimeoutError

    (task,) = tasks(tmp_path, 1)
    retries = Retries([task])
    assert retries.take() == task
    future = SimpleNamespace(result=result, status="finished")
    assert list(submit._settle(future, task, retries, watch=None)) == []
    assert retries.take() == task


@pytest.mark.parametrize("kind", ["none", "given"])
def test_the_model_set_is_released_when_a_run_ends_with_an_error(
    client, parity_modelset, tmp_path, kind
):
    connection = Connection(None if kind == "none" else client, kind, ClusterSettings())
    source = ModelSource.of(str(parity_modelset), read_info(parity_modelset))

    def run_into_an_error(journal: Journal) -> None:
        with executing([], connection, source, Settings(), journal):
            raise KeyError("in the middle")

    with Journal.opened(tmp_path / "log") as journal, pytest.raises(KeyError):
        run_into_an_error(journal)
    kinds = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    loads = connection.workers
    assert kinds == ["modelset_loaded"] * loads + ["modelset_released"] * loads
