import asyncio
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from distributed import Client

from virnuc_dask.cluster import plugin as plugin_module
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.plugin import (
    LifetimeSettings,
    ModelPlugin,
    check_workers,
    run_last_stage,
    run_stage,
)
from virnuc_dask.encoders.processor import AVX2, AVX512, PLAIN, Processor
from virnuc_dask.errors import ModelSetError, NoClusterError, WorkerRefusedError
from virnuc_dask.modelsets.lifetime import Lifetime
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.receipt import Receipt
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask

PERSISTENT = LifetimeSettings(persistent=True, clear_cache_every=50)


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
    with pytest.raises(ModelSetError, match=r"worker 0 \(inproc://.*\) has no virnuc-models-x"):
        client.submit(run_stage, count_values, "virnuc-models-x", task, workers=0).result()


@pytest.fixture
def journal(tmp_path: Path):
    with Journal.opened(tmp_path / "log") as journal:
        yield journal


def test_a_damaged_model_set_is_reported_with_worker_and_file(client, damaged, registered, journal):
    name = registered(ModelPlugin(damaged, PERSISTENT, "topic"))
    with pytest.raises(ModelSetError, match=r"worker \d .*classifier\.safetensors: damaged"):
        check_workers(client, name, journal)


def answering(states):
    """A client whose workers have all loaded and answer so."""
    return SimpleNamespace(run=None, sync=lambda *_, **__: states)


def test_a_damaged_model_set_on_one_worker_costs_that_worker(journal, monkeypatch):
    states = {"tcp://0": (ModelSetError("worker 0: damaged"), None), "tcp://1": (None, "cpu")}
    check_workers(answering(states), "plugin", journal)
    assert {k: str(why) for k, why in journal.refused.items()} == {"tcp://0": "worker 0: damaged"}


@pytest.mark.parametrize("error", [ImportError("no torch"), RuntimeError("out of memory")])
def test_a_worker_that_cannot_load_is_refused_with_the_reason(
    client, source, registered, task, monkeypatch, error
):
    def fail(_: Lifetime) -> None:
        raise error

    monkeypatch.setattr(Lifetime, "open", fail)
    name = registered(ModelPlugin(source, PERSISTENT, type(error).__name__))
    with pytest.raises(WorkerRefusedError, match=f"cannot load the model set: .*{error}"):
        client.submit(run_stage, count_values, name, task, pure=False).result()


@pytest.mark.parametrize(("chosen", "refused"), [(AVX512, True), (AVX2, False), (PLAIN, False)])
def test_a_late_worker_with_fewer_instructions_than_were_chosen_is_refused(
    client, source, registered, task, monkeypatch, chosen, refused
):
    found = Processor(AVX2, multiplies_bf16=False)
    monkeypatch.setattr(plugin_module, "this_processor", lambda: found)
    name = registered(ModelPlugin(replace(source, instructions=chosen), PERSISTENT, chosen))
    message = r"worker \d \(.* has a processor with avx2, this run computes with avx512"
    with pytest.raises(WorkerRefusedError, match=message) if refused else nullcontext():
        client.submit(run_stage, count_values, name, task, pure=False).result()


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


@pytest.mark.parametrize(
    ("devices", "shared"),
    [(["cpu", "cpu"], False), (["GPU-1", "GPU-2"], False), (["GPU-1", "GPU-1"], True)],
)
def test_two_workers_on_one_gpu_are_refused(devices, shared, journal):
    states = {f"tcp://{number}": (None, device) for number, device in enumerate(devices)}
    client = answering(states)
    expected = pytest.raises(NoClusterError, match="tcp://0 and tcp://1 share GPU-1")
    with expected if shared else nullcontext():
        check_workers(client, "plugin", journal)


def test_every_task_of_a_worker_that_could_not_load_raises_the_load_error(
    client, damaged, registered, task
):
    name = registered(ModelPlugin(damaged, PERSISTENT, "late"))
    with pytest.raises(WorkerRefusedError, match="damaged") as raised:
        client.submit(run_stage, count_values, name, task, pure=False).result()
    assert raised.value.address in client.nthreads()


def test_a_late_worker_of_another_version_is_refused_with_both(client, source, registered, task):
    plugin = ModelPlugin(source, PERSISTENT, "skewed")
    plugin.version = "0.0.9"
    name = registered(plugin)
    with pytest.raises(WorkerRefusedError, match=r"has virnuc_dask 0\.2.*, this run 0\.0\.9"):
        client.submit(run_stage, count_values, name, task, pure=False).result()


def test_taking_the_plugin_away_releases_the_model_set(client, source, journal):
    plugin = ModelPlugin(source, PERSISTENT, "released")
    client.register_plugin(plugin)
    check_workers(client, plugin.name, journal)
    client.unregister_worker_plugin(plugin.name)
    kinds = [event["event"] for _, event in client.get_events("released")]
    assert sorted(kinds) == ["modelset_loaded"] * 2 + ["modelset_released"] * 2


def test_events_name_worker_process_and_memory(client, source, registered, journal):
    check_workers(client, registered(ModelPlugin(source, PERSISTENT, "told")), journal)
    events = [event for _, event in client.get_events("told")]
    assert {event["name"] for event in events} == {"0", "1"}
    for event in events:
        assert event["mode"] == "persistent"
        assert event["pid"] > 0
        assert event["memory_after_bytes"] > 0


def test_the_name_tells_weights_and_precision_apart(source):
    def named(source: ModelSource, topic: str = "t") -> str:
        return ModelPlugin(source, PERSISTENT, topic).name

    others = [replace(source, checksum="f" * 64), replace(source, precision="bf16")]
    names = {named(source), named(source, "u"), *map(named, others)}
    assert len(names) == 4


def test_loading_leaves_the_event_loop_free(source, monkeypatch):
    """Else heartbeats stop, and a slow load would get its worker killed."""
    ticked = threading.Event()
    in_time = []
    monkeypatch.setattr(Lifetime, "open", lambda _: in_time.append(ticked.wait(10)))
    worker = SimpleNamespace(name="0", address="tcp://x", state=SimpleNamespace(nthreads=1))

    async def tick() -> None:
        ticked.set()

    async def both() -> None:
        plugin = ModelPlugin(source, PERSISTENT, "t")
        await plugin.setup(worker)
        await asyncio.gather(plugin.loaded(10), tick())
        assert plugin.is_ready

    asyncio.run(both())
    assert in_time == [True]


def test_a_worker_is_set_up_before_the_model_set_is_there(source, monkeypatch):
    """Before that a worker that comes late sends no heartbeats: it would be killed while it loads,
    and every one that comes for it."""
    go_on, closed = threading.Event(), []
    monkeypatch.setattr(Lifetime, "open", lambda _: go_on.wait(10))
    monkeypatch.setattr(Lifetime, "close", lambda _: closed.append(go_on.is_set()))
    worker = SimpleNamespace(name="0", address="tcp://x", state=SimpleNamespace(nthreads=1))

    async def set_up_and_taken_away() -> None:
        plugin = ModelPlugin(source, PERSISTENT, "t")
        await plugin.setup(worker)
        assert not plugin.is_ready
        plugin.teardown(worker)
        assert not closed, "what loads cannot be given back yet"
        go_on.set()
        await plugin.loaded(10)

    asyncio.run(set_up_and_taken_away())
    assert closed == [True]


def test_a_worker_that_cannot_load_torch_says_so_in_one_line(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "virnuc_dask.modelsets.lifetime", None)
    worker = SimpleNamespace(name="0", address="tcp://x", state=SimpleNamespace(nthreads=1))
    with pytest.raises(ModelSetError, match=r"torch cannot be loaded \(.*ulimit -v"):
        ModelPlugin(source, PERSISTENT, "t")._new_lifetime(worker)
