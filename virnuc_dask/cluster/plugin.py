"""The worker plugin that keeps a model set loaded, and the only place that asks for the worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self

from distributed import Client, Reschedule, Worker, WorkerPlugin, get_worker

from virnuc_dask.config import Settings
from virnuc_dask.errors import ModelSetError, NoClusterError, WorkerRefusedError
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.modelsets.turns import ReleasedError
from virnuc_dask.stages.attempt import attempt
from virnuc_dask.stages.receipt import Receipt
from virnuc_dask.tables.plan import PartitionTask

if TYPE_CHECKING:
    from virnuc_dask.modelsets.modelset import ModelSet
    from virnuc_dask.modelsets.residence import Residence

DISTRIBUTION = "virnuc-dask"

P = ParamSpec("P")
Stage = Callable[Concatenate[PartitionTask, "ModelSet", P], Receipt]


@dataclass(frozen=True, slots=True)
class ResidenceSettings:
    """How the model set is kept; see `Residence`."""

    persistent: bool
    clear_cache_every: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What ``settings`` ask for."""
        return cls(settings.persistent_models, settings.memory.clear_cache_every)

    @property
    def name(self) -> str:
        """The mode as the log names it."""
        return "persistent" if self.persistent else "per_partition"


class ModelPlugin(WorkerPlugin):
    """Loads the model set into a worker's state and gives it back when the worker goes.

    The name tells model set and precision, so that two runs on one cluster with different ones
    never meet; ``topic`` is where its events go.
    """

    idempotent = False

    def __init__(self, source: ModelSource, settings: ResidenceSettings, topic: str) -> None:
        self.name = f"virnuc-models-{source.checksum[:12]}-{source.precision}-{topic}"
        self.source = source
        self.settings = settings
        self.topic = topic
        self.residence: Residence | None = None
        self.version = version(DISTRIBUTION)
        self.error: ModelSetError | NoClusterError | None = None

    async def setup(self, worker: Worker) -> None:
        """Load, in a thread: a blocked event loop sends no heartbeats and the worker is killed.

        A model set that cannot be loaded is kept as `error`, not raised: Dask would only log it
        and let the worker take tasks. `check_workers` and every task ask for it.
        """
        found = version(DISTRIBUTION)
        if found != self.version:
            self.error = NoClusterError(
                f"worker {worker.name} ({worker.address}) {_skew(found, self.version)}"
            )
            return
        self.residence = await asyncio.to_thread(self._residence, worker)
        try:
            await asyncio.to_thread(self.residence.open)
        except ModelSetError as error:
            self.error = ModelSetError(f"worker {worker.name} ({worker.address}): {error}")

    def teardown(self, worker: Worker) -> None:
        """Give the model set back."""
        if self.residence is not None:
            self.residence.close()

    def _residence(self, worker: Worker) -> Residence:
        # Imported in the worker: the client never needs torch.
        from virnuc_dask.modelsets.residence import Residence

        identity = {"name": str(worker.name), "address": worker.address, "pid": os.getpid()}
        return Residence(
            replace(self.source, threads=self.source.threads or worker.state.nthreads),
            persistent=self.settings.persistent,
            clear_cache_every=self.settings.clear_cache_every,
            emit=lambda event: worker.log_event(self.topic, {**event, **identity}),
        )


def run_stage(
    stage: Stage[P], plugin_name: str, task: PartitionTask, *args: P.args, **kwargs: P.kwargs
) -> Receipt:
    """Run a stage in a worker, with the model set its plugin holds.

    Raises
    ------
    ModelSetError
        If this worker has no such model set: none was registered, or it could not be loaded.
    """
    return _run_in(_residence(plugin_name), stage, task, *args, **kwargs)


def run_last_stage(
    stage: Stage[P], plugin_name: str, task: PartitionTask, *args: P.args, **kwargs: P.kwargs
) -> Receipt:
    """Run the stage that ends a partition, and count the partition."""
    residence = _residence(plugin_name)
    receipt = _run_in(residence, stage, task, *args, **kwargs)
    residence.partition_done()
    return receipt


def _run_in(
    residence: Residence, stage: Stage[P], task: PartitionTask, *args: P.args, **kwargs: P.kwargs
) -> Receipt:
    try:
        with residence.models() as models, attempt(task):
            receipt = stage(task, models, *args, **kwargs)
    except ReleasedError:
        # This worker goes, or the run does: another one may want the task, or nobody.
        raise Reschedule from None
    return replace(receipt, worker=str(get_worker().name))


def _residence(plugin_name: str) -> Residence:
    """What holds the model set of the worker that this task runs on: every task's guard."""
    worker = get_worker()
    plugin = worker.plugins.get(plugin_name)
    if isinstance(plugin, ModelPlugin) and plugin.error is not None:
        raise WorkerRefusedError(plugin.error, worker.address)
    if not isinstance(plugin, ModelPlugin) or plugin.residence is None:
        raise ModelSetError(f"worker {worker.name} ({worker.address}) has no {plugin_name}.")
    return plugin.residence


def check_versions(client: Client) -> None:
    """Compare the version of this program here with that on the scheduler and on every worker.

    Raises
    ------
    NoClusterError
        Naming the first that has another one, or none, and both versions.
    """
    here = version(DISTRIBUTION)
    # A function that any version has, and any Python.
    try:
        there = {"the scheduler": client.run_on_scheduler(version, DISTRIBUTION)}
        there |= {
            f"worker {address}": found
            for address, found in client.run(version, DISTRIBUTION).items()
        }
    except PackageNotFoundError as error:
        raise NoClusterError(
            f"the cluster has a process without virnuc_dask; install {here} on the scheduler and "
            "on every worker."
        ) from error
    for where, found in there.items():
        if found != here:
            raise NoClusterError(f"{where} {_skew(found, here)}")


def _skew(found: str, wanted: str) -> str:
    return f"has virnuc_dask {found}, this run {wanted}. Install the same version everywhere."


def check_workers(client: Client, plugin_name: str) -> None:
    """Ask every worker whether its model set is loaded, and where.

    Raises
    ------
    ModelSetError
        The first worker's that could not load it.
    NoClusterError
        If two workers hold theirs on the same GPU.
    """
    states = client.run(_state, plugin_name)
    for error, _ in states.values():
        if error is not None:
            raise error
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


def count_resident(client: Client, plugin_name: str) -> int:
    """Workers that hold a model set now."""
    return sum(device is not None for _, device in client.run(_state, plugin_name).values())


def _state(
    plugin_name: str, dask_worker: Any = None
) -> tuple[ModelSetError | NoClusterError | None, str | None]:
    """The load error of a worker's plugin, and the device of its model set."""
    plugin = dask_worker.plugins.get(plugin_name)
    if not isinstance(plugin, ModelPlugin):
        return None, None
    return plugin.error, plugin.residence.device if plugin.residence is not None else None
