"""Where partitions are computed: in this process, or on a cluster through a bounded window."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dask.delayed import Delayed
from distributed import Client, Future, KilledWorker

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.graph import chain
from virnuc_dask.cluster.hardware import check_versions
from virnuc_dask.cluster.journal import Journal, subscribed, wait_for_releases
from virnuc_dask.cluster.plugin import (
    LifetimeSettings,
    ModelPlugin,
    check_workers,
    count_loaded,
)
from virnuc_dask.cluster.retries import Ledger
from virnuc_dask.cluster.sight import Sight
from virnuc_dask.errors import NoClusterError, WorkerRefusedError
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.crash_marks import WorkerDiedError, WorkerLostError, refuse_deadly
from virnuc_dask.stages.predict import extract_and_predict
from virnuc_dask.stages.receipt import BUGS, PARTITION_FAILURES, Outcome
from virnuc_dask.tables.plan import PartitionTask

if TYPE_CHECKING:
    from virnuc_dask.modelsets.lifetime import Lifetime

_KEPT = "What is done is kept: continue with --resume."
HERE = "client"  # what the log calls the worker where there is no cluster
_POLL_S = 1.0  # how often workers are looked at while nothing finishes
_RECEIPT_S = 30.0  # how long to wait for a receipt that was made
_LOST = "workers died while it ran, or waited"
_DEATHS = 4  # of workers, nothing computed so far, that cast doubt on more than a chunk
_LIVES = 10  # workers that may come, for each one there is, before one of them gets something done


@contextmanager
def executing(
    tasks: Sequence[PartitionTask],
    connection: Connection,
    source: ModelSource,
    lifetime: LifetimeSettings,
    journal: Journal,
    sound: PartitionTask | None = None,
) -> Iterator[Iterator[Outcome]]:
    """The outcomes of ``tasks`` as they come; model sets are loaded before and released after.

    ``sound`` is a partition that an earlier run computed, if there is one.
    """
    ledger = Ledger(tasks, lambda task, reason: journal.write(_halved(task, reason)), sound)
    if connection.client is None:
        with _models_here(source, lifetime, journal) as models:
            yield execute_here(ledger, models)
    else:
        plugin = ModelPlugin(source, lifetime, topic=f"virnuc-{uuid4().hex[:8]}")
        with (
            Sight.of(tasks[0].folder) if tasks else nullcontext() as plugin.sight,
            _models_on(connection.client, plugin, journal) as plugin_name,
        ):
            outcomes = execute_on(
                connection.client,
                ledger,
                lambda task: chain(task, plugin_name, persistent=lifetime.persistent),
                journal,
                in_flight=connection.in_flight,
                worker_timeout_s=connection.settings.worker_timeout_s,
            )
            # Closed here, so that an interrupted run cancels its tasks before it takes their
            # model set away.
            with closing(outcomes):
                yield outcomes


@contextmanager
def _models_here(
    source: ModelSource, settings: LifetimeSettings, journal: Journal
) -> Iterator[Lifetime]:
    # Imported only here: a client with a cluster never needs torch.
    from virnuc_dask.modelsets.lifetime import Lifetime

    identity = {"worker": HERE, "pid": os.getpid()}
    lifetime = Lifetime(
        source,
        persistent=settings.persistent,
        clear_cache_every=settings.clear_cache_every,
        emit=lambda event: journal.write({**event, **identity}),
    )
    try:
        lifetime.open()
        yield lifetime
    finally:
        lifetime.close()


@contextmanager
def _models_on(client: Client, plugin: ModelPlugin, journal: Journal) -> Iterator[str]:
    """Load on every worker, and on those that come later; release on the way out, always."""
    check_versions(client)
    with subscribed(client, plugin.topic, journal):
        try:
            # A worker that dies while it loads: those that come have the plugin all the same.
            with suppress(NoClusterError):
                answer(client, client.register_plugin, plugin)
            check_workers(client, plugin.name, journal)
            yield plugin.name
        finally:
            # A worker, or a whole cluster, that is gone has nothing to give back.
            with suppress(KeyError, NoClusterError):
                expected = journal.released + count_loaded(client, plugin.name)
                answer(client, client.unregister_worker_plugin, plugin.name)
                wait_for_releases(journal, expected)


def execute_here(ledger: Ledger, lifetime: Lifetime) -> Iterator[Outcome]:
    """Run the stages in this process, without Dask."""
    while (task := ledger.take()) is not None:
        try:
            with lifetime.models() as models:
                receipt = extract_and_predict(task, models)
        except BUGS:
            raise
        except PARTITION_FAILURES as error:
            yield from ledger.failed(task, error)
        else:
            yield from ledger.done(task, replace(receipt, worker=HERE))
        lifetime.partition_done()


def execute_on(
    client: Client,
    ledger: Ledger,
    chained: Callable[[PartitionTask], Delayed],
    journal: Journal,
    *,
    in_flight: int,
    worker_timeout_s: float,
) -> Generator[Outcome]:
    """Compute the ledger's tasks on a cluster, ``in_flight`` partitions a worker at a time.

    The window keeps graph and scheduler small however many partitions there are.

    Parameters
    ----------
    chained
        Makes a task's graph.
    journal
        Is told of workers that can compute nothing.

    Raises
    ------
    ModelSetError
        If no worker has the model set.
    NoClusterError
        If the cluster is lost, has had no worker for ``worker_timeout_s``, or its workers die
        before they compute anything.
    """
    done: SimpleQueue[Future[Any]] = SimpleQueue()
    running: dict[Future[Any], _Sent] = {}
    watch = _WorkerWatch(client, journal, worker_timeout_s)
    try:
        while True:
            fit = watch.fit()
            _take_back_lost(client, running, fit, ledger)
            if not (ledger.anything_computed or ledger.is_probing) and watch.many_died():
                yield from _doubt_all(client, running, ledger)
            room = watch.room(in_flight)
            while (len(running) < room or (room and ledger.is_probing)) and (
                task := ledger.take(busy=bool(running))
            ) is not None:
                # Restricted only where it must be: a worker that comes later is welcome.
                only_on = fit if watch.beside_refused else []
                where = {"workers": only_on} if only_on else {}
                future = client.compute(
                    chained(task), optimize_graph=False, priority=int(task.is_trial), **where
                )
                running[future] = _Sent(task, frozenset(only_on))
                future.add_done_callback(done.put)
            if not running and room:
                return
            with suppress(Empty):
                finished = done.get(timeout=min(_POLL_S, worker_timeout_s))
                if (sent := running.pop(finished, None)) is not None:
                    yield from _settle(finished, sent.task, ledger, watch)
    finally:
        with suppress(OSError):
            client.cancel(list(running), reason="the run ended", force=True)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A task on its way, and the only workers that it may run on; none named: any."""

    task: PartitionTask
    only_on: frozenset[str]


def _take_back_lost(
    client: Client, running: dict[Future[Any], _Sent], fit: Sequence[str], ledger: Ledger
) -> None:
    """Take back tasks whose workers are all gone: started again, these have other addresses.

    The scheduler would keep such a task until its address comes back, which it never does.
    """
    lost = [f for f, sent in running.items() if sent.only_on and sent.only_on.isdisjoint(fit)]
    if lost:
        client.cancel(lost, reason="its workers are gone", force=True)
    for future in lost:
        ledger.again(running.pop(future).task)


def _doubt_all(
    client: Client, running: dict[Future[Any], _Sent], ledger: Ledger
) -> Iterator[Outcome]:
    """Take back all that is on its way: it is to be found out whether anything can be computed."""
    client.cancel(list(running), reason="workers die", force=True)
    tasks = [sent.task for sent in running.values()]
    running.clear()
    for task in tasks:
        yield from ledger.failed(task, WorkerLostError(_LOST))


class _WorkerWatch:
    """Which workers there are, and whether waiting for them still makes sense."""

    def __init__(self, client: Client, journal: Journal, timeout_s: float) -> None:
        self._client = client
        self._journal = journal
        self._refused = journal.refused
        self._timeout_s = timeout_s
        self._last_seen = time.monotonic()
        self._fit: list[str] = []
        self._there: set[str] = set()
        self.beside_refused = False  # whether a worker that can compute nothing is there
        self._most = 1  # workers there at a time
        self._came: set[str] = set()  # since the last progress
        self._mourned: set[str] = set()  # of those, the dead that `many_died` told of
        self._last_progress = time.monotonic()

    def fit(self) -> list[str]:
        """Addresses of the workers that can compute.

        Raises
        ------
        NoClusterError, ModelSetError
            If there has been none for too long, or they come and die.
        """
        there = answer(self._client, self._client.nthreads)
        self._fit = [address for address in there if address not in self._refused]
        self.beside_refused = len(self._fit) < len(there)
        self._came.update(there)
        self._there = set(there)
        self._most = max(self._most, len(there))
        waited_s = time.monotonic() - self._last_progress
        if len(self._came) > _LIVES * self._most and waited_s > self._timeout_s:
            self._raise_refusal()
            raise NoClusterError(
                f"workers die before they compute anything: {len(self._came)} came, none was of "
                f"use. Their own logs say why; out of memory while loading? {_KEPT}"
            )
        if self._fit:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > self._timeout_s:
            self._give_up()
        return self._fit

    def room(self, in_flight: int) -> int:
        """How many tasks may run at a time; none where every worker there is refused.

        Some where none is there: an adaptive cluster starts workers for tasks that wait.
        """
        return in_flight * max(len(self._fit), 0 if self.beside_refused else 1)

    def refuse(self, error: WorkerRefusedError) -> None:
        """Give a worker that can compute nothing no more tasks."""
        self._journal.refuse(error.address, error.why)

    def many_died(self) -> bool:
        """Whether so many workers died since the last progress, or since this was true."""
        dead = self._came - self._there - self._mourned
        if len(dead) < _DEATHS:
            return False
        self._mourned |= dead
        return True

    def progress(self) -> None:
        """Something was computed."""
        self._came.clear()
        self._mourned.clear()
        self._last_progress = time.monotonic()

    def _give_up(self) -> None:
        self._raise_refusal()
        raise NoClusterError(f"the cluster has had no worker for {self._timeout_s:.0f} s. {_KEPT}")

    def _raise_refusal(self) -> None:
        """Where workers were refused, raise why the first one was."""
        for why in self._refused.values():
            raise type(why)(f"no worker is of use: {why} {_KEPT}")


def _settle(
    future: Future[Any], task: PartitionTask, ledger: Ledger, watch: _WorkerWatch
) -> Iterator[Outcome]:
    """Enter what became of a task into the ledger."""
    try:
        # A receipt can be lost with its worker until it is here; Dask makes it again then.
        receipt = future.result(timeout=_RECEIPT_S)
    except TimeoutError:
        ledger.again(task)
    except CancelledError as error:
        raise NoClusterError(
            f"the cluster went away (partition {task.index} is {future.status}). {_KEPT}"
        ) from error
    except BUGS:
        raise
    except (KilledWorker, WorkerRefusedError, *PARTITION_FAILURES) as error:
        yield from _failed(task, error, ledger, watch)
    else:
        watch.progress()
        yield from ledger.done(task, receipt)


def _failed(
    task: PartitionTask, error: BaseException, ledger: Ledger, watch: _WorkerWatch
) -> Iterator[Outcome]:
    """Enter into the ledger why a task failed, or that nothing is known about it yet."""
    if isinstance(error, KilledWorker):
        # Dask counts the deaths of workers on which the task merely waited. Ours do not.
        try:
            refuse_deadly(task)
        except WorkerDiedError as died:
            error = died
        else:
            if not ledger.anything_computed:
                error = WorkerLostError(_LOST)
    if isinstance(error, WorkerRefusedError):
        watch.refuse(error)
    if isinstance(error, KilledWorker | WorkerRefusedError):
        ledger.again(task)
        return
    if not isinstance(error, WorkerLostError):
        watch.progress()
    yield from ledger.failed(task, error)


def _halved(task: PartitionTask, reason: str) -> dict[str, Any]:
    return {
        "event": "partition_halved",
        "partition": task.index,
        "rows": task.rows,
        "chunks": task.chunks,
        "reason": reason,
    }
