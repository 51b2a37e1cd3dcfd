"""The worker plugin that keeps a model set loaded, and the only place that asks for the worker."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from distributed import Client, Reschedule, Worker, WorkerPlugin, get_worker

from virnuc_dask.cluster.dashboard.worker_metrics import count_event, count_receipt, gpu_metrics
from virnuc_dask.cluster.hardware import DISTRIBUTION, ask_workers, skew
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.sight import Sight
from virnuc_dask.config import Settings
from virnuc_dask.encoders.processor import INSTRUCTION_SETS, this_processor
from virnuc_dask.errors import ModelSetError, NoClusterError, WorkerRefusedError
from virnuc_dask.modelsets.device_lock import ReleasedError
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.receipt import Receipt
from virnuc_dask.tables.plan import PartitionTask

if TYPE_CHECKING:
    from virnuc_dask.modelsets.lifetime import Lifetime
    from virnuc_dask.modelsets.modelset import ModelSet

_PAUSE_S = 0.05  # between two looks at a plugin that loads
_LOOK_S = 2.0  # that the client waits for a plugin that loads before it asks again

P = ParamSpec("P")
R = TypeVar("R")
Stage = Callable[Concatenate[PartitionTask, "ModelSet", P], R]


class ModelPlugin(WorkerPlugin):
    """Loads the model set into a worker's state and gives it back when the worker goes.

    The name tells model set and precision, so that two runs on one cluster with different ones
    never meet; ``topic`` is where its events go, ``sight`` what a worker must see.
    """

    idempotent = False

    def __init__(
        self,
        source: ModelSource,
        settings: Settings,
        topic: str,
        sight: Sight | None = None,
    ) -> None:
        self.name = f"virnuc-models-{source.checksum[:12]}-{source.precision}-{topic}"
        self.source = source
        self.settings = settings
        self.topic = topic
        self.sight = sight
        self.is_ready = False  # whether loading has ended
        self.lifetime: Lifetime | None = None
        self.version = version(DISTRIBUTION)
        self.error: ModelSetError | NoClusterError | None = None
        self._loading: asyncio.Task[None] | None = None
        self._is_gone = False  # taken away while it loaded

    async def setup(self, worker: Worker) -> None:
        """Begin to load, and do not wait for it; `check_workers` and every task do.

        A worker that comes late, or again, sends no heartbeats before its plugins are set up. One
        that loads for longer than a worker may be silent would be killed, over and over again.
        Held by tests/cluster/test_plugin.py.
        """
        self._loading = asyncio.create_task(self._load(worker))

    async def loaded(self, timeout_s: float) -> None:
        """Wait until loading has ended, but not for longer than ``timeout_s``."""
        if self._loading is not None:
            await asyncio.wait([self._loading], timeout=timeout_s)

    async def _load(self, worker: Worker) -> None:
        """Load, in a thread: a blocked event loop sends no heartbeats and the worker is killed.

        What keeps the worker from computing is kept as `error`, not raised: Dask would only log
        it, and the worker would take tasks. `check_workers` and every task ask for it.
        """
        who = f"worker {worker.name} ({worker.address})"
        try:
            if refusal := await asyncio.to_thread(self._refusal):
                self.error = NoClusterError(f"{who} {refusal}")
                return
            self.lifetime = await asyncio.to_thread(self._new_lifetime, worker)
            await asyncio.to_thread(self.lifetime.open)
        except ModelSetError as error:
            self.error = ModelSetError(f"{who}: {error}")
        except (ImportError, OSError, RuntimeError, MemoryError) as error:
            reason = f"{type(error).__name__}: {error}"
            self.error = NoClusterError(f"{who} cannot load the model set: {reason}.")
        finally:
            self.is_ready = True
            if self._is_gone:
                self._give_back()

    def _refusal(self) -> str:
        """Why this worker cannot compute as the others do; empty if it can."""
        found = version(DISTRIBUTION)
        if found != self.version:
            return skew(found, self.version)
        unseen = self.sight.refusal(self.source.name) if self.sight is not None else ""
        return unseen or self._weakness()

    def _weakness(self) -> str:
        """Kernels are chosen once, by the weakest of the processors that were there then."""
        chosen, found = self.source.instructions, this_processor().instructions
        if chosen is None or INSTRUCTION_SETS.index(found) <= INSTRUCTION_SETS.index(chosen):
            return ""
        return (
            f"has a processor with {found}, this run computes with {chosen} instructions, and "
            "results would depend on who computes what. Start such workers before the run."
        )

    def teardown(self, worker: Worker) -> None:
        """Give the model set back; one that loads still, once it is there."""
        self._is_gone = True
        if self.is_ready:
            self._give_back()

    def _give_back(self) -> None:
        if self.lifetime is not None:
            self.lifetime.close()

    def _new_lifetime(self, worker: Worker) -> Lifetime:
        # Imported in the worker: the client never needs torch.
        try:
            from virnuc_dask.modelsets.lifetime import Lifetime
        except (ImportError, OSError, MemoryError) as error:
            raise ModelSetError(
                f"torch cannot be loaded ({str(error) or type(error).__name__}); too little memory "
                "(ulimit -v), or an incomplete installation."
            ) from error

        identity: dict[str, Any] = {
            "name": str(worker.name),
            "address": worker.address,
            "pid": os.getpid(),
        }

        def emit(event: dict[str, Any]) -> None:
            count_event(identity["name"], event)
            worker.metrics.update(gpu_metrics(event))
            worker.log_event(self.topic, {**event, **identity})

        return Lifetime(
            replace(self.source, threads=self.source.threads or worker.state.nthreads),
            persistent=self.settings.persistent_models,
            clear_cache_every=self.settings.memory.clear_cache_every,
            emit=emit,
        )


def run_stage(
    stage: Stage[P, R], plugin_name: str, task: PartitionTask, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Run a stage in a worker, with the model set its plugin holds.

    `ModelSetError` if there is none: none was registered, or it could not be loaded.
    """
    return _run_in(_lifetime(plugin_name), stage, task, *args, **kwargs)


def run_last_stage(
    stage: Stage[P, Receipt],
    plugin_name: str,
    task: PartitionTask,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Receipt:
    """Run the stage that ends a partition, and count the partition."""
    lifetime = _lifetime(plugin_name)
    receipt = _run_in(lifetime, stage, task, *args, **kwargs)
    lifetime.partition_done()
    worker = str(get_worker().name)
    count_receipt(worker, receipt)
    return replace(receipt, worker=worker)


def _run_in(
    lifetime: Lifetime, stage: Stage[P, R], task: PartitionTask, *args: P.args, **kwargs: P.kwargs
) -> R:
    try:
        with lifetime.models() as models:
            return stage(task, models, *args, **kwargs)
    except ReleasedError:
        # This worker goes, or the run does: another one may want the task, or none.
        raise Reschedule from None


def _lifetime(plugin_name: str) -> Lifetime:
    """What holds the model set of the worker that this task runs on: every task's guard."""
    worker = get_worker()
    plugin = worker.plugins.get(plugin_name)
    while isinstance(plugin, ModelPlugin) and not plugin.is_ready:
        time.sleep(_PAUSE_S)  # it loads
        plugin = worker.plugins.get(plugin_name)
    if isinstance(plugin, ModelPlugin) and plugin.error is not None:
        raise WorkerRefusedError(plugin.error, worker.address)
    if not isinstance(plugin, ModelPlugin) or plugin.lifetime is None:
        raise ModelSetError(f"worker {worker.name} ({worker.address}) has no {plugin_name}.")
    return plugin.lifetime


def check_workers(client: Client, plugin_name: str, journal: Journal) -> None:
    """Wait until every worker has loaded its model set, or cannot; refuse those that have none.

    Raises the first worker's reason if there are workers and none can compute, and
    `NoClusterError` if two hold theirs on the same GPU.
    """
    while not all(ask_workers(client, _loaded, plugin_name).values()):
        pass  # each asks for a while
    states = ask_workers(client, _state, plugin_name)
    errors = {address: error for address, (error, _) in states.items() if error is not None}
    for error in list(errors.values()) if len(errors) == len(states) else ():
        raise error
    for address, error in errors.items():
        journal.refuse(address, error)
    gpus: dict[str, str] = {}
    for address, (_, device) in states.items():
        if device is None or device == "cpu":
            continue
        if device in gpus:
            raise NoClusterError(
                f"workers {gpus[device]} and {address} share {device}: start one worker a GPU, "
                "each with its own CUDA_VISIBLE_DEVICES."
            )
        gpus[device] = address


def count_loaded(client: Client, plugin_name: str) -> int:
    """Workers that hold a model set now."""
    return sum(
        device is not None for _, device in ask_workers(client, _state, plugin_name).values()
    )


async def _loaded(plugin_name: str, dask_worker: Any = None) -> bool:
    """Whether a worker has loaded, or could not; waits a moment for it."""
    plugin = dask_worker.plugins.get(plugin_name)
    if not isinstance(plugin, ModelPlugin):
        return True
    await plugin.loaded(_LOOK_S)
    return plugin.is_ready


def _state(
    plugin_name: str, dask_worker: Any = None
) -> tuple[ModelSetError | NoClusterError | None, str | None]:
    plugin = dask_worker.plugins.get(plugin_name)
    if not isinstance(plugin, ModelPlugin):
        return None, None
    return plugin.error, plugin.lifetime.device if plugin.lifetime is not None else None
