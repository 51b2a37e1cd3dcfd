"""Puts what a run does onto its scheduler, whoever started that, and takes it away at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from distributed import Client, Scheduler, SchedulerPlugin

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.dashboard.history import PAGE, RunHistory
from virnuc_dask.cluster.dashboard.run_metrics import SHOWN
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.errors import NoClusterError

_BEFORE = ("run_started", "planned")  # events that tell what does not change
_TAKE = "virnuc_event"  # how the client calls the scheduler
# What Dask or bokeh of another release may raise where the page expects something else.
_UNBUILDABLE = (ImportError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)


class RunMonitor(SchedulerPlugin):
    """Keeps the state of one run on the scheduler, as long as the run and its client last."""

    state: RunHistory

    def __init__(self, before: Iterable[Mapping[str, Any]], topic: str, client_id: str) -> None:
        self.name = f"virnuc-run-{topic}"
        self._topic = topic
        self.why_no_page = ""
        self._before = list(before)  # events
        self._client_id = client_id

    async def start(self, scheduler: Scheduler) -> None:
        """Begin to take events, and show the page."""
        self._scheduler = scheduler
        self.state = RunHistory(self._topic, time.time(), self._in_work)
        for event in self._before:
            self.state.take(event, self.state.started)
        scheduler.handlers.setdefault(_TAKE, _handler(scheduler))
        SHOWN.append(self.state)
        try:
            from virnuc_dask.cluster.dashboard.page import add_page

            self.why_no_page = add_page(scheduler)
        except _UNBUILDABLE as error:
            self.why_no_page = f"{type(error).__name__}: {error}"

    async def close(self) -> None:
        """The scheduler ends."""
        SHOWN.remove(self.state)

    def leave(self) -> None:
        """The run has ended: nothing of it stays."""
        self.state.ended = time.time()
        SHOWN.remove(self.state)
        self._scheduler.remove_plugin(self.name)
        if not self.why_no_page:
            from virnuc_dask.cluster.dashboard.page import remove_unused_page

            with suppress(*_UNBUILDABLE):
                remove_unused_page(self._scheduler)

    def _in_work(self, worker: Any = None) -> int:
        # Not those that wait there.
        workers = self._scheduler.workers.values() if worker is None else [worker]
        return sum(
            min(each.nthreads, sum(self._is_ours(task.key) for task in each.processing))
            for each in workers
        )

    def _is_ours(self, key: object) -> bool:
        return isinstance(key, str) and key.endswith(self._topic)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Tell of a partition that is taken back, or whose task failed."""
        if start != "processing" or finish in ("memory", "forgotten") or not self._is_ours(key):
            return
        partition = key.split("-", 1)[1].split("-virnuc-")[0].rpartition("-")[0]
        if finish == "erred":
            line = f"{partition}: its task failed; it is tried again, or its chunks are searched."
        else:
            line = f"{partition}: its worker has not finished it; another one computes it."
        self.state.tell(time.time(), "retried", line)

    def update_graph(self, scheduler: Scheduler, *, tasks: list[Any], **kwargs: Any) -> None:
        """Drop the kind of each collection ever submitted, which Dask notes and never reads."""
        with suppress(*_UNBUILDABLE):
            if self._is_ours(tasks[0]):
                span_id = scheduler.tasks[tasks[0]].group.span_id
                del scheduler.extensions["spans"].spans[span_id].metadata["collections"][1:]

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:
        """Tell of a worker that is gone."""
        self.state.tell(time.time(), "worker left", f"the worker at {worker} is gone")

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Leave with the client, which may have been killed."""
        if client == self._client_id and self.name in scheduler.plugins:
            self.leave()


def _handler(scheduler: Scheduler) -> Callable[..., None]:
    def take(name: str, event: dict[str, Any], line: str) -> None:
        monitor = scheduler.plugins.get(name)
        if isinstance(monitor, RunMonitor):
            monitor.state.take(event, time.time(), line)

    return take


@contextmanager
def watched(connection: Connection, journal: Journal) -> Iterator[Connection]:
    """Show a run on its scheduler's dashboard and metrics; yields a connection that links there.

    Whatever does not work is a line of the log, and the run goes on.
    """
    client = connection.client
    if client is None:
        yield connection
        return
    before = [journal.state.last[k] for k in _BEFORE if k in journal.state.last]
    monitor = RunMonitor(before, connection.topic, client.id)
    if why := _show(client, monitor):
        message = f"The dashboard has no page of this run: {why}."
        journal.write({"event": "note", "message": message})
    else:
        connection = replace(connection, page=PAGE)
    journal.listener = _sender(client, monitor.name)
    try:
        yield connection
    finally:
        journal.listener = None
        with suppress(NoClusterError):
            answer(client, client.run_on_scheduler, _forget, monitor.name)


def _show(client: Client, monitor: RunMonitor) -> str:
    """Register; why there is no page, if so."""
    try:
        answer(client, client.register_plugin, monitor)
        return str(answer(client, client.run_on_scheduler, _why_no_page, monitor.name))
    except (NoClusterError, *_UNBUILDABLE) as error:
        return f"{type(error).__name__}: {error}"


def _why_no_page(name: str, dask_scheduler: Any = None) -> str:
    return str(dask_scheduler.plugins[name].why_no_page)


def _forget(name: str, dask_scheduler: Any = None) -> None:
    if isinstance(monitor := dask_scheduler.plugins.get(name), RunMonitor):
        monitor.leave()


def _sender(client: Client, name: str) -> Callable[[dict[str, Any], str], None]:
    """Sends events to the scheduler, and waits for nothing."""

    def listen(event: dict[str, Any], line: str) -> None:
        async def send() -> None:
            with suppress(OSError, AttributeError):  # the cluster is gone, or the client closed
                await getattr(client.scheduler, _TAKE)(name=name, event=event, line=line)

        if client.loop is not None:
            client.loop.add_callback(send)

    return listen
