"""Workers as jobs of a batch system, through dask-jobqueue."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Status

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.connect import FOR_SCHEDULER
from virnuc_dask.cluster.job_scripts import SYSTEMS, arguments_of, configured, dask_class
from virnuc_dask.cluster.start_up import PORT_TAKEN
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import NoClusterError

Tell = Callable[[str], None]

# How dask-jobqueue tells that a command failed, is missing, or answered something else.
_REFUSALS = (RuntimeError, OSError, ValueError)
# Jobs in a row that may end before their workers come; further ones would end likewise.
_FAILURES = 3
_TOLD_EVERY_S = 60.0
_LOOK_S = 0.2  # between two looks whether the first worker has come
_LONGEST_PAUSE_S = 600.0
_COMMAND_S = 60.0  # that the batch system may take to answer
_LAST_LINES = 5  # of a job's log, or of what a command says, that are shown


@contextmanager
def submitted(settings: ClusterSettings, logs: Path, tell: Tell) -> Iterator[Client]:
    """A client of a cluster of jobs, once the first worker has come; the jobs end with the block.

    ``logs`` is the folder of the jobs' logs and the workers' certificates, on a disk that all
    machines see; ``tell`` is given lines for people. `NoClusterError` if jobs cannot be submitted,
    end before they are of use, or none starts in time.
    """
    # Only `_Keeper` ends jobs: a lost worker can come back, by its nanny or by the batch system.
    with configured(settings) as section, dask.config.set(FOR_SCHEDULER):
        with _submitting():
            logs.mkdir(parents=True, exist_ok=True)
            cluster = dask_class(settings, "Cluster")(**arguments_of(settings, section, logs))
        keeper = _Keeper(cluster, settings, logs, tell)
        with keeper.kept():
            tell(
                f"Workers come to {cluster.scheduler_address}; compute nodes must be able to reach "
                "it. Choose another interface with cluster.jobs.interface, or in jobqueue.yaml."
            )
            with _submitting():
                keeper.submit()
                client = Client(cluster)
            with client:
                keeper.wait(client)
                yield client


class _Keeper:
    """Keeps as many jobs as were asked for, tells how they fare, and cancels them at the end.

    dask-jobqueue submits each job once: one that ends, by its walltime, pre-emption or a failing
    node, is gone.
    """

    def __init__(self, cluster: Any, settings: ClusterSettings, logs: Path, tell: Tell) -> None:
        self._cluster = cluster
        self._settings = settings
        self._logs = logs
        self._tell = tell
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)
        self._end = threading.Event()
        self._useful: set[str] = set()  # jobs whose workers came
        self._absent: set[str] = set()  # jobs that the batch system did not list when last asked
        self._failures = 0  # jobs that ended before their workers came, since one came
        self._pause_until = 0.0
        self._waiting_since = time.monotonic()
        self._told, self._told_at = "", 0.0

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Cancel the jobs and close the cluster on the way out, always."""
        try:
            yield
        finally:
            self._end.set()
            if self._thread.is_alive():
                self._thread.join(_COMMAND_S)
            self._cancel()
            # The scheduler complains of every worker that is there when it closes.
            logging.getLogger("distributed.scheduler").setLevel(logging.CRITICAL)
            with suppress(TimeoutError):
                self._cluster.close(timeout=_COMMAND_S)
            # dask-jobqueue leaves the files with the keys to the garbage collector.
            for name in ("ca_file", "cert", "key"):
                if (file := getattr(self._cluster, f"_job_{name}", None)) is not None:
                    file.close()

    def submit(self) -> None:
        """Submit the jobs, and begin to look after them."""
        jobs = self._settings.jobs
        self._cluster.sync(self._fill)
        if jobs.number == "auto":
            # Jobs wait in queues: none is asked for or given back for a moment's sake.
            slowly = {"interval": "10 s", "wait_count": 6}
            self._cluster.adapt(minimum_jobs=1, maximum_jobs=jobs.at_most, **slowly)
        self._thread.start()

    def wait(self, client: Client) -> None:
        patience_s = self._settings.patience_s
        while not answer(client, client.nthreads):
            if self._failures >= _FAILURES:
                raise NoClusterError(
                    f"{self._failures} jobs ended before their workers came; can they reach "
                    f"{self._cluster.scheduler_address}? {self._last_words()}"
                )
            if time.monotonic() - self._waiting_since > patience_s:
                raise NoClusterError(
                    f"no worker came within {patience_s:.0f} s: {self._told or 'too soon to say'}. "
                    "Wait longer (setting cluster.worker_timeout_s), ask for less, and continue "
                    "with --resume."
                )
            time.sleep(_LOOK_S)

    def _watch(self) -> None:
        while not self._end.wait(self._settings.jobs.poll_s):
            self._look()

    def _look(self) -> None:
        jobs = {name: job.job_id for name, job in list(self._cluster.workers.items())}
        states, there = self._states(), self._there(jobs)
        self._failures = 0 if there - self._useful else self._failures
        self._useful |= there
        absent = {
            name
            for name, number in jobs.items()
            if name not in there and (states is None or number not in states)
        }
        # Twice: what was submitted just now may not be listed yet.
        ended = absent & self._absent if states is not None else set()
        if time.monotonic() < self._pause_until:
            ended &= self._useful
        self._absent = absent - ended
        wanted = set(self._cluster.worker_spec)
        self._report(len(there), len(wanted), [jobs.get(name) for name in wanted - there], states)
        if ended:
            self._submit_again(ended)

    def _states(self) -> dict[str, str] | None:
        """The states of the user's jobs by their numbers; None if the batch system is silent."""
        system = SYSTEMS[str(self._settings.batch_system)]
        try:
            lines = _run(*system.ask).splitlines()
        except (OSError, subprocess.SubprocessError):
            return None
        split = [words for words in map(str.split, lines) if len(words) > system.state]
        states = {
            words[0]: words[system.state].removesuffix(",None").replace(",", ", ")
            for words in split
        }
        listed = {k: state for k, state in states.items() if state not in system.ended}
        # PBS names its server in the number, which dask-jobqueue leaves out.
        return listed | {number.partition(".")[0]: state for number, state in listed.items()}

    def _there(self, jobs: Mapping[str, Any]) -> set[str]:
        """The jobs whose workers are there; where a job has several they are numbered."""
        workers = list(self._cluster.scheduler_info["workers"].values())
        names = [str(each["name"]) for each in workers]
        return set(jobs) & {*names, *(name.rpartition("-")[0] for name in names)}

    def _report(
        self, there: int, wanted: int, missing: Collection[Any], states: Mapping[str, str] | None
    ) -> None:
        """Tell how many jobs are of use, when that changes, and every minute until all are."""
        now = time.monotonic()
        if there >= wanted:
            self._waiting_since = now
        command = SYSTEMS[str(self._settings.batch_system)].ask[0]
        says = sorted({(states or {}).get(number, "nothing of it") for number in missing})
        waiting = f" ({command} says: {'; '.join(says)})" if says else ""
        running = f"{there} of {wanted} jobs running"
        if running + waiting == self._told and (not says or now - self._told_at < _TOLD_EVERY_S):
            return
        self._told, self._told_at = running + waiting, now
        waited = timedelta(seconds=round(now - self._waiting_since))
        self._tell(running + (f", waiting {waited}" if says else "") + waiting)

    def _submit_again(self, ended: Collection[str]) -> None:
        """Replace jobs that ended; ever more slowly those that end before they are of use."""
        if failed := len(set(ended) - self._useful):
            self._failures += failed
            pause_s = min(_LONGEST_PAUSE_S, 2.0**self._failures)
            self._pause_until = time.monotonic() + pause_s
        self._useful -= set(ended)
        try:
            self._cluster.sync(self._replace, ended)
        except _REFUSALS as error:
            self._tell(f"a job cannot be submitted again now: {_reason(error)}")

    async def _replace(self, ended: Collection[str]) -> None:
        for name in ended:
            if (job := self._cluster.workers.pop(name, None)) is not None:
                job.status = Status.closed
            self._cluster.worker_spec.pop(name, None)
        await self._fill()

    async def _fill(self) -> None:
        """Submit what is missing; raises what the batch system says, which ``scale`` would log."""
        number = self._settings.jobs.number
        while len(self._cluster.worker_spec) < (number if isinstance(number, int) else 1):
            self._cluster.worker_spec.update(self._cluster.new_worker_spec())
        await self._cluster

    def _cancel(self) -> None:
        jobs = list(self._cluster.workers.values())
        numbers = [job.job_id for job in jobs if job.job_id is not None]
        for job in jobs:
            # dask-jobqueue leaves this out, and Dask asserts it where a job was refused.
            job.status = Status.closed
        if numbers:
            with suppress(OSError, subprocess.SubprocessError):
                _run(*jobs[0].cancel_command.split(), *numbers)

    def _last_words(self) -> str:
        """The end of the log that was written last."""
        logs = [path for path in self._logs.glob("[vw]*") if path.stat().st_size]
        if not logs:
            return f"They left no log in {self._logs}: do the compute nodes see this folder?"
        # A *.log is HTCondor's own, which also tells how the job ended.
        last = max(logs, key=lambda path: (path.suffix != ".log", path.stat().st_mtime))
        lines = last.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        return "\n  ".join([f"The end of {last}:", *lines])


@contextmanager
def _submitting() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", PORT_TAKEN)
            yield
    except _REFUSALS as error:
        raise NoClusterError(f"jobs cannot be submitted: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a command of the batch system wrote as its error, or the error itself."""
    lines = map(str.strip, str(error).rpartition("stderr:\n")[2].splitlines())
    return " ".join([*filter(None, lines)][-_LAST_LINES:]) or type(error).__name__


def _run(*command: str) -> str:
    """What a command of the batch system prints; an interrupt at the terminal is not its own."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=_COMMAND_S,
        start_new_session=True,
    ).stdout
