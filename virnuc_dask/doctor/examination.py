"""Asks this machine and its disks, then the workers, and has the answers checked."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from virnuc_dask.cluster.batch_systems import Tell
from virnuc_dask.cluster.connect import names_running, refuse_impossible
from virnuc_dask.cluster.machine import Machine, this_machine
from virnuc_dask.config import Settings
from virnuc_dask.doctor import checks
from virnuc_dask.doctor.checks import GREEN, HERE, RED, YELLOW, Disk, Finding, Need
from virnuc_dask.doctor.workers import connected, look_at_workers
from virnuc_dask.encoders.precision import AUTO, fastest_precision
from virnuc_dask.errors import ModelSetError, VirnucError
from virnuc_dask.modelsets.manifest import ModelSetInfo, find, read_info
from virnuc_dask.modelsets.sizes import weight_bytes
from virnuc_dask.modelsets.source import located
from virnuc_dask.tables.paths import reason

_PROBE_BYTES = 1 << 25  # written to see how fast a disk is


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
        with connected(cluster, folder, tell) as connection:
            model = located(settings.model) if info else settings.model
            findings += look_at_workers(connection, need, folder, model, found.machines)
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
        yield checks.check_processor(here, HERE)
        yield from checks.check_gpus(here, need, HERE)
        yield checks.check_memory(here, need, HERE, here.cores)
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
