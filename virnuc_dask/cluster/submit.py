"""Where partitions are computed: in this process, or on a cluster through a bounded window."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from dask.delayed import Delayed
from distributed import Client, Future, KilledWorker

from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.graph import partition_graph
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.loaded_models import HERE, models_here, models_on
from virnuc_dask.cluster.machine_faults import KEPT
from virnuc_dask.cluster.plugin import ModelPlugin
from virnuc_dask.cluster.retries import Retries
from virnuc_dask.cluster.sight import Sight
from virnuc_dask.cluster.worker_watch import WorkerWatch
from virnuc_dask.config import Settings
from virnuc_dask.errors import NoClusterError, WorkerRefusedError
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.crash_marks import WorkerDiedError, refuse_deadly
from virnuc_dask.stages.predict import extract_and_predict
from virnuc_dask.stages.receipt import BUGS, PARTITION_FAILURES, Receipt
from virnuc_dask.tables.plan import PartitionTask

if TYPE_CHECKING:
    from virnuc_dask.modelsets.lifetime import Lifetime

_POLL_S = 1.0  # how often workers are looked at while nothing finishes
_RECEIPT_S = 30.0  # how long to wait for a receipt that was made


@contextmanager
def executing(
    tasks: Sequence[PartitionTask],
    connection: Connection,
    source: ModelSource,
    settings: Settings,
    journal: Journal,
    control: PartitionTask | None = None,
    *,
    lasting: bool = False,
) -> Iterator[Iterator[Receipt]]:
    """The receipts of ``tasks`` as they come; model sets are loaded before and released after.

    ``control`` is a partition that an earlier run computed, if there is one. ``lasting``: as of
    `models_here`, where there is no cluster.
    """
    retries = Retries(tasks, journal.deadly, control)
    if connection.client is None:
        with models_here(source, settings, journal, lasting=lasting) as models:
            yield execute_here(retries, models)
        return
    plugin = ModelPlugin(source, settings, topic=connection.topic)
    with (
        Sight.at(tasks[0].folder.token) if tasks else nullcontext() as plugin.sight,
        models_on(connection.client, plugin, journal),
        # Closed here, so that an interrupted run cancels its tasks before it takes their model
        # set away.
        closing(
            execute_on(
                connection.client,
                retries,
                lambda task: partition_graph(
                    task, plugin.name, persistent=settings.persistent_models
                ),
                WorkerWatch(connection.client, journal, connection.settings.patience_s),
                in_flight=connection.in_flight,
            )
        ) as receipts,
    ):
        yield receipts


def execute_here(retries: Retries, lifetime: Lifetime) -> Iterator[Receipt]:
    """Run the stages in this process, without Dask."""
    while (task := retries.take()) is not None:
        try:
            with lifetime.models() as models:
                receipt = extract_and_predict(task, models)
        except BUGS:
            raise
        except PARTITION_FAILURES as error:
            yield from retries.failed(task, error)
        else:
            yield from retries.done(task, replace(receipt, worker=HERE))
        lifetime.partition_done()


def execute_on(
    client: Client,
    retries: Retries,
    graph_of: Callable[[PartitionTask], Delayed],
    watch: WorkerWatch,
    *,
    in_flight: int,
) -> Generator[Receipt]:
    """Compute partitions on a cluster, ``in_flight`` of them a worker at a time.

    The window keeps graph and scheduler small however many partitions there are. Raises
    `ModelSetError` if no worker has the model set, `NoClusterError` if the cluster is lost, has had
    no worker for too long, or its workers die before they compute anything.
    """
    window = _Window(client, retries, graph_of)
    try:
        while True:
            watch.look()
            window.take_back_lost(watch.fit)
            if retries.must_be_alone:
                window.take_back_all()
            room = watch.room(in_flight)
            # Restricted only where it must be: a worker that comes later is welcome.
            window.fill(room, watch.fit if watch.beside_refused else [])
            if room and not window.sent:
                return
            for future, task in window.finished(min(_POLL_S, watch.timeout_s)):
                yield from _settle(future, task, retries, watch)
    finally:
        with suppress(OSError):
            window.cancel(window.sent, "the run ended")


@dataclass(frozen=True, slots=True)
class _Sent:
    """A task on its way, and the only workers that it may run on; none named: any."""

    task: PartitionTask
    only_on: frozenset[str]


class _Window:
    """The tasks that are on their way."""

    def __init__(
        self, client: Client, retries: Retries, graph_of: Callable[[PartitionTask], Delayed]
    ) -> None:
        self._client, self._retries, self._graph_of = client, retries, graph_of
        self._done: SimpleQueue[Future[Any]] = SimpleQueue()
        self.sent: dict[Future[Any], _Sent] = {}

    def fill(self, room: int, only_on: Sequence[str]) -> None:
        """Send tasks until ``room`` are on their way; to these workers, if any are named."""
        where = {"workers": only_on} if only_on else {}
        tasks: list[PartitionTask] = []
        while len(self.sent) + len(tasks) < room:
            task = self._retries.take(busy=bool(self.sent or tasks))
            if task is None:
                break
            tasks.append(task)
        # In one call: much of what Dask takes for a partition it takes once a call.
        graphs = [self._graph_of(task) for task in tasks]
        futures = self._client.compute(graphs, optimize_graph=False, **where) if graphs else []
        for future, task in zip(futures, tasks, strict=True):
            self.sent[future] = _Sent(task, frozenset(only_on))
            future.add_done_callback(self._done.put)

    def finished(self, timeout_s: float) -> Iterator[tuple[Future[Any], PartitionTask]]:
        """All that have finished by now; waits for one, but not for longer than ``timeout_s``."""
        for _ in range(max(1, self._done.qsize())):
            with suppress(Empty):
                future = self._done.get(timeout=timeout_s)
                if (sent := self.sent.pop(future, None)) is not None:
                    yield future, sent.task

    def take_back_lost(self, fit: Sequence[str]) -> None:
        """Take back tasks whose workers are all gone: started again, these have other addresses.

        The scheduler would keep such a task for an address that never comes back.
        """
        self._take_back(
            [f for f, sent in self.sent.items() if sent.only_on and sent.only_on.isdisjoint(fit)],
            "its workers are gone",
        )

    def take_back_all(self) -> None:
        self._take_back(list(self.sent), "workers die")

    def cancel(self, futures: Iterable[Future[Any]], reason: str) -> None:
        if futures := list(futures):
            self._client.cancel(futures, reason=reason, force=True)

    def _take_back(self, futures: list[Future[Any]], reason: str) -> None:
        self.cancel(futures, reason)
        for future in futures:
            self._retries.again(self.sent.pop(future).task)


def _settle(
    future: Future[Any], task: PartitionTask, retries: Retries, watch: WorkerWatch
) -> Iterator[Receipt]:
    try:
        # A receipt can be lost with its worker until it is here; Dask makes it again then.
        receipt = future.result(timeout=_RECEIPT_S)
    except TimeoutError:
        retries.again(task)
    except CancelledError as error:
        raise NoClusterError(
            f"the cluster went away (partition {task.index} is {future.status}). {KEPT}"
        ) from error
    except BUGS:
        raise
    except WorkerRefusedError as error:
        watch.refuse(error)
        retries.again(task)
    except KilledWorker:
        yield from _killed(task, retries)
    except PARTITION_FAILURES as error:
        watch.progress()
        yield from retries.failed(task, error)
    else:
        watch.progress()
        yield from retries.done(task, receipt)


def _killed(task: PartitionTask, retries: Retries) -> Iterator[Receipt]:
    """Dask counts the deaths of workers on which a task merely waited. Ours do not."""
    try:
        refuse_deadly(task)
    except WorkerDiedError as died:
        yield from retries.failed(task, died)
    else:
        retries.again(task)
