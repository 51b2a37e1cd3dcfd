import asyncio
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client

from virnuc_dask.cluster import plugin as plugin_module
from virnuc_dask.cluster.plugin import (
    ModelPlugin,
    check_workers,
    run_last_stage,
    run_stage,
)
from virnuc_dask.config import Settings
from virnuc_dask.encoders.processor import AVX2, AVX512, PLAIN, Processor
from virnuc_dask.errors import ModelSetError, NoClusterError, WorkerRefusedError
from virnuc_dask.modelsets.lifetime import Lifetime
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.receipt import Receipt
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask

PERSISTENT = Settings()


@pytest.fixture
def source(parity_modelset: Path) -> ModelSource:
    return ModelSource.of(str(parity_modelset), read_info(parity_modelset))


@pytest.fixture
def damaged(source: ModelSource, tmp_path: Path) -> ModelSource:
    """The same model set with one byte of its weights changed."""
    for file in Path(source.name).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "classifier.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "classifier.safetensors").write_bytes(weights)
    return replace(source, name=str(tmp_path))


@pytest.fixture
def registered(client: Client):
    """Registers a plugin on the workers, and takes it away after the test."""
    names = []

    def register(plugin: ModelPlugin) -> str:
        client.register_plugin(plugin)
        names.append(plugin.name)
        return plugin.name

    yield register
    for name in names:
        client.unregister_worker_plugin(name)


@pytest.fixture
def task(tmp_path: Path) -> PartitionTask:
    return PartitionTask(RunFolder(tmp_path), 7, 1, "content", "features", "predictions", True)


def count_values(task, models) -> Receipt:
    """A stage that tells how many values the model set's features have."""
    return Receipt(task.index, models.info.feature_dim, 0, 0, 0)


def test_every_worker_has_the_model_set_once_and_stages_get_it(
    client, source, registered, task, journal
):
    name = registered(ModelPlugin(source, PERSISTENT, "topic"))
    check_workers(client, name, journal)
    receipts = [
        client.submit(run_last_stage, count_values, name, task, workers=worker, pure=False).result()
        for worker in client.nthreads()
        for _ in range(2)
    ]
    assert {(receipt.partition, receipt.chunks) for receipt in receipts} == {(7, 176)}
    assert len({receipt.worker for receipt in receipts}) == 2
    loads = client.run(lambda dask_worker: dask_worker.plugins[name].lifetime._loads)
    assert list(loads.values()) == [1, 1]


def test_a_task_where_no_model_set_was_registered_names_the_worker(client, task):
    with pytest.raises(ModelSetError, match=r"worker 0 \(tcp://.*\) has no virnuc-models-x"):
        client.submit(run_stage, count_values, "virnuc-models-x", task, workers=0).result()


def test_refused_workers_are_named_and_two_on_one_gpu_end_the_run(journal):
    def check(*states) -> None:
        there = {f"tcp://{number}": state for number, state in enumerate(states)}
        # A client whose workers have all loaded and answer so.
        client = SimpleNamespace(run=None, sync=lambda *_, **__: there)
        check_workers(client, "plugin", journal)

    check((ModelSetError("worker 0: damaged"), None), (None, "cpu"), (None, "cpu"))
    assert {k: str(why) for k, why in journal.refused.items()} == {"tcp://0": "worker 0: damaged"}
    check((None, "GPU-1"), (None, "GPU-2"))
    with pytest.raises(NoClusterError, match="tcp://0 and tcp://1 share GPU-1"):
        check((None, "GPU-1"), (None, "GPU-1"))


def no_torch(_: Lifetime) -> None:
    raise ImportError("no torch")


def test_a_worker_that_cannot_compute_as_the_others_is_refused_with_the_reason(
    client, source, damaged, registered, task, journal, monkeypatch
):
    """Those that come late, too: every task asks."""

    def refused(plugin: ModelPlugin, why: str) -> None:
        name = registered(plugin)
        with pytest.raises(WorkerRefusedError, match=rf"worker \d \(tcp.*{why}") as raised:
            client.submit(run_stage, count_values, name, task, pure=False).result()
        assert raised.value.address in client.nthreads()

    broken = ModelPlugin(damaged, PERSISTENT, "damaged")
    refused(broken, r"classifier\.safetensors: damaged")
    with pytest.raises(ModelSetError, match="damaged"):
        check_workers(client, broken.name, journal)
    older = ModelPlugin(source, PERSISTENT, "older")
    older.version = "0.0.9"
    refused(older, r"has virnuc_dask 0\.2.*, this run 0\.0\.9")
    with monkeypatch.context() as patch:
        patch.setattr(Lifetime, "open", no_torch)
        refused(ModelPlugin(source, PERSISTENT, "x"), "cannot load the model set: .*no torch")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "virnuc_dask.modelsets.lifetime", None)
        refused(ModelPlugin(source, PERSISTENT, "y"), r"torch cannot be loaded \(.*ulimit -v")
    found = Processor(AVX2, multiplies_bf16=False)
    monkeypatch.setattr(plugin_module, "this_processor", lambda: found)
    more = replace(source, instructions=AVX512)
    refused(ModelPlugin(more, PERSISTENT, "z"), "has a processor with avx2, this run .* avx512")
    for chosen in (AVX2, PLAIN):
        fits = ModelPlugin(replace(source, instructions=chosen), PERSISTENT, chosen)
        client.submit(run_stage, count_values, registered(fits), task, pure=False).result()


def test_a_task_waits_for_a_plugin_that_loads(client, source, task):
    plugin = ModelPlugin(source, PERSISTENT, "slow")
    name = plugin.name

    def begin(dask_worker) -> None:
        dask_worker.plugins[name] = ModelPlugin(source, PERSISTENT, "slow")

    client.run(begin)
    future = client.submit(run_stage, count_values, name, task, pure=False)
    client.register_plugin(plugin)
    assert future.result().chunks == 176
    client.unregister_worker_plugin(name)


def test_loading_leaves_the_event_loop_free_and_set_up_does_not_wait_for_it(source, monkeypatch):
    """Else heartbeats stop: a slow load would get its worker killed, and each that comes for it."""
    loading, go_on, closed = threading.Event(), threading.Event(), []

    def load(_: Lifetime) -> None:
        loading.set()
        closed.append(not go_on.wait(10))

    monkeypatch.setattr(Lifetime, "open", load)
    monkeypatch.setattr(Lifetime, "close", lambda _: closed.append(go_on.is_set()))
    worker = SimpleNamespace(name="0", address="tcp://x", state=SimpleNamespace(nthreads=1))

    async def set_up_and_taken_away() -> None:
        plugin = ModelPlugin(source, PERSISTENT, "t")
        await plugin.setup(worker)
        await asyncio.to_thread(loading.wait, 10)
        assert not plugin.is_ready
        plugin.teardown(worker)
        assert not closed, "what loads cannot be given back yet"
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        await plugin.loaded(10)
        assert plugin.is_ready

    asyncio.run(set_up_and_taken_away())
    assert closed == [False, True], "loaded in time, then given back"
