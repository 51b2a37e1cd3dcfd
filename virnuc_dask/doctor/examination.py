"""Asks this machine and its disks, then a cluster's workers, and has the answers checked."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.batch_systems import Tell, submitted
from virnuc_dask.cluster.connect import (
    Connection,
    connect,
    device_of,
    names_running,
    refuse_impossible,
)
from virnuc_dask.cluster.hardware import DISTRIBUTION
from virnuc_dask.cluster.job_scripts import with_workers
from virnuc_dask.cluster.machine import Machine, this_machine
from virnuc_dask.cluster.sight import Sight
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.doctor import checks
from virnuc_dask.doctor.checks import GREEN, HERE, RED, SCHEDULER, YELLOW, Disk, Finding, Need
from virnuc_dask.encoders.precision import AUTO, fastest_precision
from virnuc_dask.errors import ModelSetError, VirnucError
from virnuc_dask.modelsets.manifest import ModelSetInfo, find, read_info
from virnuc_dask.modelsets.sizes import weight_bytes
from virnuc_dask.modelsets.source import located
from virnuc_dask.tables.paths import reason

_PROBE_BYTES = 1 << 25  # written to see how fast a disk is
_DASHBOARD_S = 5.0
_CPU_WORKERS = 2  # that are started here to be looked at: they are alike


@dataclass
class Examination:
    """Findings, and what each machine has, on which they rest."""

    findings: list[Finding] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)

    @property
    def level(self) -> str:
        """The worst level of all."""
        return checks.worst(self.findings)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {"level": self.level, **asdict(self)}


def examine(settings: Settings, out: Path, tell: Tell) -> Examination:
    """Look at all that a run with ``settings`` into ``out`` needs; what cannot be had is a finding.

    Workers are started as a run starts them, and end with this; ``tell`` takes lines for people.
    """
    cluster = settings.cluster
    is_here = not names_running(cluster) and cluster.batch_system is None
    info, findings = _look_at_modelset(settings.model)
    need = partial(_need, settings, info)
    here = this_machine()
    found = Examination(findings, {HERE: here})
    findings += _look_here(here, need(here) if is_here else None)
    folder, findings_there = _look_at_folder(out)
    findings += findings_there
    if cluster.kind == "none":
        return found
    if folder is None or (is_here and found.level == RED):
        text, step = "not asked: no run would get so far", "Mend what is red, and ask again."
        findings.append(Finding(YELLOW, "workers", HERE, text, step))
        return found
    try:
        refuse_impossible(cluster)
        tell("Asking the workers; those that have to be started take a moment.")
        with _connected(cluster, folder, tell) as connection:
            model = located(settings.model) if info else settings.model
            findings += _look_at_workers(connection, need, folder, model, found.machines)
    except (VirnucError, OSError) as error:
        findings.append(_as_finding(error, "cluster"))
    return found


def _as_finding(error: Exception, topic: str) -> Finding:
    """What is told, and the next step, with which our messages end."""
    text, _, step = str(error).rpartition(". ")
    return Finding(RED, topic, HERE, text or str(error), step if text else "")


def _look_here(here: Machine, need: Need | None) -> Iterator[Finding]:
    """What this process needs; and, where workers come to this machine, what they need."""
    packages = ", ".join(f"{name} {found}" for name, found in here.versions.items() if found)
    yield Finding(GREEN, "packages", HERE, packages)
    if need is not None:
        yield from checks.check_machine(here, need, HERE, here.cores)
    else:
        yield checks.check_open_files(here, HERE)


def _look_at_modelset(name: str) -> tuple[ModelSetInfo | None, list[Finding]]:
    try:
        info = read_info(find(name))
        _encoder_bytes(name, info, "fp32")
    except ModelSetError as error:
        return None, [_as_finding(error, "model set")]
    disk = checks.check_disk(_disk(find(name)), "model files")
    return info, [Finding(GREEN, "model set", HERE, f"{info.name} {info.version}"), disk]


def _encoder_bytes(name: str, info: ModelSetInfo, precision: str) -> tuple[int, ...]:
    files = info.nucleotide.file, info.peptide.file
    return tuple(weight_bytes(find(name) / file, precision) for file in files)


def _need(settings: Settings, info: ModelSetInfo | None, machine: Machine) -> Need:
    """What is asked of a machine that computes; nothing of its memory without a model set."""
    cluster = settings.cluster
    asked = {cluster.kind, cluster.device} & {"cpu", "cuda"}
    device = "cpu" if "cpu" in asked else "cuda" if asked else "auto"
    by_dask_cuda = cluster.kind in ("auto", "cuda") and not names_running(cluster)
    if info is None:
        return Need(device, settings.model, (0, 0), by_dask_cuda)
    architectures = info.nucleotide.architecture, info.peptide.architecture
    used = "cuda" if machine.gpus and device != "cpu" else "cpu"
    fastest = fastest_precision(used, machine.processor, architectures)
    precision = fastest if settings.precision == AUTO else settings.precision
    sizes = _encoder_bytes(settings.model, info, precision)
    return Need(device, settings.model, sizes, by_dask_cuda)


def _look_at_folder(out: Path) -> tuple[Path | None, list[Finding]]:
    """The run folder, or the one above it that is there; None if it cannot be written."""
    folder = out.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return folder, [checks.check_disk(_disk(folder, probe=True), "run folder")]
    except OSError as error:
        text = f"{folder}: cannot be written: {reason(error)}"
        return None, [Finding(RED, "run folder", HERE, text, "Choose another folder (--out).")]


def _disk(folder: Path, *, probe: bool = False) -> Disk:
    """What a folder lies on; with ``probe`` it is written, which leaves nothing behind."""
    mounted = {each.mountpoint: each.fstype for each in psutil.disk_partitions(all=True)}
    places = (str(place) for place in (folder, *folder.parents))
    kind = next((mounted[place] for place in places if place in mounted), "unknown kind")
    speed = _write_speed(folder) if probe else None
    return Disk(str(folder), kind, shutil.disk_usage(folder).free, speed)


def _write_speed(folder: Path) -> float:
    """Bytes a second, up to the disk itself."""
    content, start = os.urandom(_PROBE_BYTES), time.perf_counter()
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
    return _PROBE_BYTES / (time.perf_counter() - start)


@contextmanager
def _connected(cluster: ClusterSettings, folder: Path, tell: Tell) -> Iterator[Connection]:
    """The cluster that a run would have; few of those workers that are alike."""
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


def _look_at_workers(
    connection: Connection,
    need_of: Callable[[Machine], Need],
    folder: Path,
    modelset: str,
    machines: dict[str, Machine],
) -> Iterator[Finding]:
    """Ask scheduler and workers for their version, and workers that have this one for all else.

    The workers' machines are added to ``machines``.
    """
    client, own = connection.client, str(machines[HERE].versions[DISTRIBUTION])
    assert client is not None
    there = client.scheduler_info()["workers"]
    names = {address: f"worker {each['name']} ({address})" for address, each in there.items()}
    step = "Start some; a cluster that adapts starts them for a run's tasks."
    yield checks.graded("cluster", HERE, str(connection), (not names, YELLOW, step))
    yield _look_at_dashboard(connection.dashboard)
    yield checks.check_version(_scheduler_version(client), own, SCHEDULER)
    versions = _ask(client, names, version, DISTRIBUTION)
    yield from (checks.check_version(versions[each], own, names[each]) for each in names)
    fit = [address for address in names if versions[address] == own]
    asked = time.time()
    found = _ask(client, fit, this_machine)
    answered = time.time()
    with Sight.at(folder / f".virnuc-doctor-{uuid4().hex}") as sight:
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
        yield from checks.check_machine(limited, need_of(machine), where)
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


def _look_at_dashboard(address: str | None) -> Finding:
    """Ask for its shortest page."""
    page = str(address).rpartition("/")[0] + "/health"
    try:
        with urllib.request.urlopen(page, timeout=_DASHBOARD_S):
            return checks.check_dashboard(address, "")
    except (OSError, ValueError) as error:
        return checks.check_dashboard(address, str(getattr(error, "reason", error)))
