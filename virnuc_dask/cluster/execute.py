"""Where partitions are computed: in this process, or on a cluster through a bounded window."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask.delayed import Delayed
from distributed import Client, Future, KilledWorker

from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.graph import chain
from virnuc_dask.cluster.monitor import Journal, subscribed, wait_for_releases
from virnuc_dask.cluster.plugin import ModelPlugin, ResidenceSettings, check_workers, count_resident
from virnuc_dask.errors import NoClusterError
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.predict import extract_and_predict
from virnuc_dask.stages.receipt import PARTITION_FAILURES, Failure, Receipt
from virnuc_dask.tables.plan import PartitionTask

if TYPE_CHECKING:
    from virnuc_dask.modelsets.residence import Residence

Outcome = Receipt | Failure
_KEPT = "What is done is kept: continue with --resume."
HERE = "client"  # what the log calls the worker where there is no cluster


@contextmanager
def executing(
    tasks: Iterable[PartitionTask],
    connection: Connection,
    source: ModelSource,
    residence: ResidenceSettings,
    journal: Journal,
) -> Iterator[Iterator[Outcome]]:
    """The outcomes of ``tasks`` as they come; model sets are loaded before and released after."""
    if connection.client is None:
        with _models_here(source, residence, journal) as models:
            yield execute_here(tasks, models)
    else:
        with _models_on(connection.client, source, residence, journal) as plugin_name:
            outcomes = execute_on(
                connection.client,
                ((t, chain(t, plugin_name, persistent=residence.persistent)) for t in tasks),
                in_flight=connection.in_flight,
                worker_timeout_s=connection.settings.worker_timeout_s,
            )
            # Closed here, so that an interrupted run cancels its tasks before it takes their
            # model set away.
            with closing(outcomes):
                yield outcomes


@contextmanager
def _models_here(
    source: ModelSource, settings: ResidenceSettings, journal: Journal
) -> Iterator[Residence]:
    # Imported only here: a client with a cluster never needs torch.
    from virnuc_dask.modelsets.residence import Residence

    identity = {"worker": HERE, "pid": os.getpid()}
    residence = Residence(
        source,
        persistent=settings.persistent,
        clear_cache_every=settings.clear_cache_every,
        emit=lambda event: journal.write({**event, **identity}),
    )
    try:
        residence.open()
        yield residence
    finally:
        residence.close()


@contextmanager
def _models_on(
    client: Client, source: ModelSource, settings: ResidenceSettings, journal: Journal
) -> Iterator[str]:
    """Load on every worker, and on those that come later; release on the way out, always."""
    plugin = ModelPlugin(source, settings, topic=f"virnuc-{uuid4().hex[:8]}")
    with subscribed(client, plugin.topic, journal):
        try:
            client.register_plugin(plugin)
            check_workers(client, plugin.name)
            yield plugin.name
        finally:
            # A worker, or a whole cluster, that is gone has nothing to give back.
            with suppress(KeyError, ValueError, OSError):
                expected = journal.released + count_resident(client, plugin.name)
                client.unregister_worker_plugin(plugin.name)
                wait_for_releases(journal, expected)


def execute_here(tasks: Iterable[PartitionTask], residence: Residence) -> Iterator[Outcome]:
    """Run the stages in this process, without Dask."""
    for task in tasks:
        try:
            with residence.models() as models:
                receipt = extract_and_predict(task, models)
            yield replace(receipt, worker=HERE)
        except PARTITION_FAILURES as error:
            yield Failure(task.index, _reason(error))
        residence.partition_done()


def execute_on(
    client: Client,
    chains: Iterable[tuple[PartitionTask, Delayed]],
    *,
    in_flight: int,
    worker_timeout_s: float,
) -> Generator[Outcome]:
    """Run the chains on a cluster, ``in_flight`` partitions a worker at a time.

    The window keeps graph and scheduler small however many partitions there are.

    Raises
    ------
    ModelSetError
        If a worker has no model set.
    NoClusterError
        If the cluster is lost, or has had no worker for ``worker_timeout_s``.
    """
    done: SimpleQueue[Future[Any]] = SimpleQueue()
    running: dict[Future[Any], PartitionTask] = {}
    waiting = iter(chains)
    try:
        while True:
            for task, chained in islice(
                waiting, max(0, in_flight * max(1, _workers(client)) - len(running))
            ):
                future = client.compute(chained, optimize_graph=False)
                running[future] = task
                future.add_done_callback(done.put)
            if not running:
                return
            finished = _next_done(done, client, worker_timeout_s)
            yield _outcome(finished, running.pop(finished))
    finally:
        with suppress(OSError):
            client.cancel(list(running), reason="the run ended", force=True)


def _workers(client: Client) -> int:
    """Workers there are now."""
    try:
        return len(client.nthreads())
    except (OSError, ValueError) as error:  # no connection, or a client that gave up on it
        raise NoClusterError(f"the cluster went away ({error}). {_KEPT}") from error


def _next_done(
    done: SimpleQueue[Future[Any]], client: Client, worker_timeout_s: float
) -> Future[Any]:
    while True:
        try:
            return done.get(timeout=worker_timeout_s)
        except Empty:
            if not _workers(client):
                raise NoClusterError(
                    f"the cluster has had no worker for {worker_timeout_s:.0f} s. {_KEPT}"
                ) from None


def _outcome(future: Future[Any], task: PartitionTask) -> Outcome:
    if future.status == "finished":
        receipt: Receipt = future.result()
        return receipt
    if future.status != "error":
        raise NoClusterError(
            f"the cluster went away (partition {task.index} is {future.status}). {_KEPT}"
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Failure(task.index, "its worker died again and again (out of memory?)")
    if isinstance(error, PARTITION_FAILURES):
        return Failure(task.index, _reason(error))
    raise error


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
