"""A cluster's workers: what each has, and whether it sees the same files."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.batch_systems import Tell, submitted
from virnuc_dask.cluster.connect import Connection, connect, device_of
from virnuc_dask.cluster.hardware import DISTRIBUTION
from virnuc_dask.cluster.job_scripts import with_workers
from virnuc_dask.cluster.machine import Machine, this_machine
from virnuc_dask.cluster.sight import Sight
from virnuc_dask.config import ClusterSettings
from virnuc_dask.doctor import checks
from virnuc_dask.doctor.checks import HERE, RED, SCHEDULER, YELLOW, Finding, Need, graded
from virnuc_dask.tables.parquet import write_text

_DASHBOARD_S = 5.0
_CPU_WORKERS = 2  # that are started here to be looked at: they are alike


@contextmanager
def connected(cluster: ClusterSettings, folder: Path, tell: Tell) -> Iterator[Connection]:
    """The cluster that a run would have; few of those workers that are alike.

    Raises
    ------
    VirnucError
        As a run would.
    """
    if cluster.batch_system is None:
        few = _CPU_WORKERS if device_of(cluster) == "cpu" else None
        with connect(cluster, 0, None, few) as connection:
            yield connection
        return
    with (
        tempfile.TemporaryDirectory(
            prefix=".virnuc-doctor-", dir=folder, ignore_cleanup_errors=True
        ) as logs,
        submitted(with_workers(cluster), Path(logs), tell) as client,
        connect(cluster, 0, client) as connection,
    ):
        yield connection


def look_at_workers(
    connection: Connection,
    need_of: Callable[[Machine], Need],
    folder: Path,
    modelset: str,
    machines: dict[str, Machine],
) -> Iterator[Finding]:
    """Ask scheduler and workers for their version, and workers that have this one for all else.

    Parameters
    ----------
    machines
        By their names; this one is there, and the workers' are added.
    """
    client, own = connection.client, str(machines[HERE].versions[DISTRIBUTION])
    assert client is not None
    there = client.scheduler_info()["workers"]
    names = {address: f"worker {each['name']} ({address})" for address, each in there.items()}
    step = "Start some; a cluster that adapts starts them for a run's tasks."
    yield graded("cluster", HERE, str(connection), (not names, YELLOW, step))
    yield _look_at_dashboard(connection.dashboard)
    yield checks.check_version(_scheduler_version(client), own, SCHEDULER)
    versions = _ask(client, names, version, DISTRIBUTION)
    yield from (checks.check_version(versions[each], own, names[each]) for each in names)
    fit = [address for address in names if versions[address] == own]
    asked = time.time()
    found = _ask(client, fit, this_machine)
    answered = time.time()
    with _shown(folder) as sight:
        refusals = _ask(client, fit, sight.refusal, modelset)
    for address in fit:
        where, machine = names[address], found[address]
        if not isinstance(machine, Machine):
            yield Finding(RED, "worker", where, f"does not answer: {machine}", "See its log.")
            continue
        machines[where] = machine
        limit = there[address]["memory_limit"] or machine.memory_bytes
        limited = replace(machine, memory_bytes=min(limit, machine.memory_bytes))
        skew_s = machine.clock - min(max(machine.clock, asked), answered)
        yield checks.check_packages(machine, machines[HERE], where)
        yield checks.check_processor(machine, where)
        yield from checks.check_gpus(machine, need_of(machine), where)
        yield checks.check_memory(limited, need_of(machine), where, workers=1)
        yield checks.check_open_files(machine, where)
        yield checks.check_clock(skew_s, where)
        yield checks.check_files(refusals[address], where)


def _ask(client: Any, among: Iterable[str], question: Any, *args: Any) -> dict[str, Any]:
    """What each of these workers answers, by address; an exception if it cannot."""
    among = list(among)
    if not among:
        return {}
    call = client.run
    found: dict[str, Any] = answer(client, call, question, *args, workers=among, on_error="return")
    return found


def _scheduler_version(client: Any) -> object:
    try:
        return answer(client, client.run_on_scheduler, version, DISTRIBUTION)
    except PackageNotFoundError as error:
        return error


@contextmanager
def _shown(folder: Path) -> Iterator[Sight]:
    """A token in ``folder`` by which a worker tells that it sees the very same; not a run's own."""
    sight = Sight(folder / f".virnuc-doctor-{uuid4().hex}", uuid4().hex)
    write_text(sight.token_file, sight.token)
    try:
        yield sight
    finally:
        sight.token_file.unlink(missing_ok=True)


def _look_at_dashboard(address: str | None) -> Finding:
    """Ask for its shortest page."""
    page = str(address).rpartition("/")[0] + "/health"
    try:
        with urllib.request.urlopen(page, timeout=_DASHBOARD_S):
            return checks.check_dashboard(address, "")
    except (OSError, ValueError) as error:
        return checks.check_dashboard(address, str(getattr(error, "reason", error)))
