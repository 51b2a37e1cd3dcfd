"""The job scripts of batch systems, from settings and Dask's ``jobqueue.yaml``."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dask.config
from dask.utils import parse_bytes

from virnuc_dask.cluster.start_up import refuse_foreign_host
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadSettingError, NoClusterError, UsageError
from virnuc_dask.modelsets.environment import VARIABLES

_CORES, _MEMORY, _DISK = 4, "16GB", "4GB"
_LOOPBACK = "127.0.0.1"  # where clusters on this machine listen
_PIPELINE = 3  # partitions in work on a GPU: one is read, one computes, one is written
# A worker takes nothing new so long before its job's end: what it computes takes some seconds.
_LEAST_MARGIN_S, _MOST_MARGIN_S = 60.0, 600.0
_PACKAGE, _LIFETIME = "virnuc_dask.cluster", "DASK_DISTRIBUTED__WORKER__LIFETIME__"
# How Dask's workers use memory and keep profiles otherwise: see FOR_WORKERS in connect.py. A nanny
# prefers the environment to its own defaults, but cannot be told there to leave one out.
_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
    "DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL": "100ms",
    "DASK_DISTRIBUTED__WORKER__PROFILE__CYCLE": "60s",
    **VARIABLES,
}


@dataclass(frozen=True, slots=True)
class System:
    """What differs between batch systems, besides what dask-jobqueue knows."""

    kind: str  # begins the names of dask-jobqueue's classes
    ask: tuple[str, ...]  # command that lists the user's jobs, one a line, the number first
    state: int  # the word of such a line that tells the state
    gpus: tuple[str, str]  # argument for GPUs, and its text
    account: str = "account"  # argument for what is charged; empty: there is none
    ended: tuple[str, ...] = ()  # states of jobs that are listed, and over
    short: tuple[tuple[int, ...], ...] = ((1,), (60, 1))  # seconds of walltimes of 1, 2 numbers


_DIRECTIVE, _RESOURCES = "job_extra_directives", "resource_spec"
# HTCondor's numbers of states as its own tables call them.
_CONDOR_STATES = (
    '{"unexpanded","idle","running","removed","completed","held","transferring","suspended"}'
)
SYSTEMS = {
    "slurm": System(
        "SLURM",
        ("squeue", "-h", "-u", str(os.getuid()), "-o", "%i %T,%r"),
        1,
        (_DIRECTIVE, "--gres=gpu:{gpus}"),
        short=((60,), (60, 1)),
    ),
    "pbs": System(
        "PBS",
        ("qstat",),
        4,
        (_RESOURCES, "select=1:ncpus={cores}:ngpus={gpus}:mem={megabytes}MB"),
        ended=("C", "F", "X"),
    ),
    "sge": System("SGE", ("qstat",), 4, (_DIRECTIVE, "-l gpu={gpus}"), account="project"),
    "lsf": System(
        "LSF",
        ("bjobs", "-noheader", "-o", "jobid stat"),
        1,
        (_DIRECTIVE, '-gpu "num={gpus}"'),
        account="project",
        short=((60,), (3600, 60)),
    ),
    "htcondor": System(
        "HTCondor",
        ("condor_q", "-af:j", f"{_CONDOR_STATES}[JobStatus]"),
        1,
        (_DIRECTIVE, "request_gpus = {gpus}"),
        account="",
        ended=("removed", "completed"),
    ),
    "oar": System(
        "OAR",
        ("oarstat",),
        1,
        (_RESOURCES, "/nodes=1/gpu={gpus}"),
        account="project",
        short=((3600,), (3600, 60)),
    ),
    "moab": System(
        "Moab", ("showq",), 2, (_RESOURCES, "nodes=1:ppn={cores}:gpus={gpus}"), ended=("Completed",)
    ),
}


def refuse_unsubmittable(settings: ClusterSettings) -> None:
    """Find out early, and without submitting anything, whether jobs can be submitted here.

    `NoClusterError` if dask-jobqueue or the batch system's commands are missing, `BadSettingError`
    if there is no such section of ``jobqueue.yaml``, or a setting has no meaning here.
    """
    if settings.workers is not None:
        raise BadSettingError("--workers are those of this machine; of jobs say how many: --jobs.")
    refuse_foreign_host(settings.host)
    with configured(settings) as section:
        command = dask_class(settings, "Job").submit_command.split()[0]
        if shutil.which(command) is None:
            raise NoClusterError(
                f"--cluster {settings.kind}: there is no command {command} on this machine. Submit "
                "from one that has it, mostly a login node."
            )
        arguments_of(settings, section, Path())


def with_workers(settings: ClusterSettings) -> ClusterSettings:
    """The settings with what each worker in a job gets: torch threads, partitions in work."""
    with configured(settings) as section:
        threads = settings.threads or _cores(settings, section) // max(1, settings.jobs.gpus) or 1
        return replace(settings, threads=threads, partitions_at_once=_at_once(settings))


def _at_once(settings: ClusterSettings) -> int:
    return settings.partitions_at_once or (_PIPELINE if settings.jobs.gpus else 1)


def job_script(settings: ClusterSettings, logs: Path) -> str:
    """What would be submitted for one job; the scheduler's address is not known before it runs."""
    with configured(settings) as section, TemporaryDirectory() as folder:
        arguments = arguments_of(settings, section, logs)
        for name in ("name", "security", "shared_temp_directory", "scheduler_options"):
            del arguments[name]
        protocol = "tls" if settings.jobs.tls else "tcp"
        job = dask_class(settings, "Job")(
            f"{protocol}://<scheduler>", name="virnuc-0", **arguments | {"log_directory": folder}
        )
        script: str = job.job_script()
        return script.replace(folder, str(logs.absolute()))


def walltime_s(text: str, system: str) -> int:
    """Seconds of a walltime in a batch system's notation: ``30``, ``00:30:00``, ``1-12:00``.

    `BadSettingError` if it is none.
    """
    numbers = re.split("[-:]", text)
    try:
        units = (*SYSTEMS[system].short, (3600, 60, 1))[len(numbers) - 1 :]
        each = (86400, 3600, 60, 1)[: len(numbers)] if "-" in text else units[0]
        return sum(unit * int(number) for unit, number in zip(each, numbers, strict=True))
    except (ValueError, IndexError) as error:
        raise BadSettingError(f"walltime {text!r}: write it as hours:minutes:seconds.") from error


@contextmanager
def configured(settings: ClusterSettings) -> Iterator[Mapping[str, Any]]:
    """The section of ``jobqueue.yaml``, which has all that its system's has, and is in force."""
    _import_jobqueue()
    system, _, name = settings.kind.partition(":")
    section = dask.config.get(f"jobqueue.{name or system}", None)
    if not isinstance(section, Mapping):
        known = ", ".join(dask.config.get("jobqueue"))
        raise BadSettingError(
            f"--cluster {settings.kind}: Dask's configuration has no section jobqueue.{name} "
            f"(~/.config/dask/jobqueue.yaml, /etc/dask); there are {known}."
        )
    whole = dask.config.merge(dask.config.get(f"jobqueue.{system}"), section)
    with dask.config.set({f"jobqueue.{name or system}": whole}):
        yield whole


def _import_jobqueue() -> Any:
    handler = signal.getsignal(signal.SIGINT)
    try:
        return import_module("dask_jobqueue")
    except ImportError as error:
        raise NoClusterError(
            f"dask-jobqueue cannot be imported ({error}); install virnuc-dask[jobqueue]."
        ) from error
    finally:
        # Its module `runner` takes interrupts for itself when it is imported.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def dask_class(settings: ClusterSettings, what: str) -> Any:
    """dask-jobqueue's ``Cluster`` or ``Job`` of this system."""
    system = str(settings.batch_system)
    return getattr(import_module(f"dask_jobqueue.{system}"), f"{SYSTEMS[system].kind}{what}")


def arguments_of(
    settings: ClusterSettings, section: Mapping[str, Any], logs: Path
) -> dict[str, Any]:
    """What dask-jobqueue's cluster is made with; all else it finds in the section."""
    jobs, logs = settings.jobs, logs.absolute()
    if len(str(logs).split()) > 1:
        raise UsageError(f"{logs}: job scripts take no path with spaces; choose another folder.")
    host = {"host": settings.host} if settings.host != _LOOPBACK else {}
    options = {"dashboard_address": f"{_LOOPBACK}:{settings.dashboard_port}", **host}
    return {
        "config_name": settings.kind.rpartition(":")[2],
        "name": "virnuc",
        "job_name": "virnuc",
        "processes": max(1, jobs.gpus),
        "cores": _cores(settings, section),
        "memory": _memory(settings, section),
        "log_directory": str(logs),
        "shared_temp_directory": section.get("shared-temp-directory") or str(logs),
        "security": jobs.tls or None,
        "scheduler_options": options | (section.get("scheduler-options") or {}),
        **({"interface": jobs.interface} if jobs.interface else {}),
        **_charged(settings),
        **_resources(settings, section, logs),
        **_worker(settings, section),
    }


def _charged(settings: ClusterSettings) -> dict[str, str]:
    """Queue, account and walltime, where they are set."""
    jobs, system = settings.jobs, str(settings.batch_system)
    asked = {"queue": jobs.queue, SYSTEMS[system].account: jobs.account, "walltime": jobs.walltime}
    given = {name: value for name, value in asked.items() if value is not None}
    if given and system == "htcondor":
        raise BadSettingError(
            "HTCondor has no queue, account or walltime by name; write cluster.jobs.directives, "
            "such as 'accounting_group = mine'."
        )
    return given


def _resources(settings: ClusterSettings, section: Mapping[str, Any], logs: Path) -> dict[str, Any]:
    """Directives of the job: GPUs, where its section does not ask for them, and further ones."""
    jobs, system = settings.jobs, str(settings.batch_system)
    how, template = SYSTEMS[system].gpus
    asked = template.format(
        gpus=jobs.gpus,
        cores=_cores(settings, section),
        megabytes=math.ceil(parse_bytes(_memory(settings, section)) / 2**20),
    )
    own = section.get(_DIRECTIVE.replace("_", "-")) or []
    own = [f"{k} = {v}" for k, v in own.items()] if isinstance(own, Mapping) else list(own)
    is_missing = jobs.gpus and not any("gpu" in line for line in (*own, *jobs.directives))
    added = [asked] if is_missing and how == _DIRECTIVE else []
    found: dict[str, Any] = {_DIRECTIVE: [*own, *added, *jobs.directives]}
    if is_missing and how == _RESOURCES and not section.get("resource-spec"):
        found[_RESOURCES] = asked
    if system == "htcondor":
        pairs = (line.partition("=") for line in found[_DIRECTIVE])
        found[_DIRECTIVE] = {name.strip(): value.strip() for name, _, value in pairs}
        found["disk"] = section.get("disk") or _DISK
        # It tells one process alone that the job ends: the shell, which would tell nobody.
        found["python"] = f"exec {section.get('python') or sys.executable}"
    if system == "oar":  # dask-jobqueue leaves its logs where they fall
        found[_DIRECTIVE] += [f"-O {logs}/virnuc-%jobid%.out", f"-E {logs}/virnuc-%jobid%.err"]
        name = "memory-per-core-property-name"
        found[name.replace("-", "_")] = section.get(name) or "not_applicable"
    return found


def _worker(settings: ClusterSettings, section: Mapping[str, Any]) -> dict[str, Any]:
    """Command and environment of the worker: one, or by dask-cuda one for each GPU."""
    jobs = settings.jobs
    arguments = ["--nthreads", str(_at_once(settings))]
    arguments += ["--worker-class", f"{_PACKAGE}.job_worker.JobWorker"]
    environment = dict(_ENVIRONMENT)
    lifetime = _lifetime(settings, section)
    if jobs.gpus > 1:  # its command has no such option
        environment |= {f"{_LIFETIME}{name.upper()}": value for name, value in lifetime.items()}
    else:
        options = {"duration": "--lifetime", "stagger": "--lifetime-stagger"}
        arguments += [word for name, value in lifetime.items() for word in (options[name], value)]
    return {
        "worker_extra_args": [*(section.get("worker-extra-args") or []), *arguments],
        "job_script_prologue": [
            *(section.get("job-script-prologue") or []),
            *jobs.setup,
            *(f"export {name}={value}" for name, value in environment.items()),
        ],
        **({"worker_command": "dask_cuda.cli"} if jobs.gpus > 1 else {}),
    }


def _lifetime(settings: ClusterSettings, section: Mapping[str, Any]) -> dict[str, str]:
    """When a worker takes nothing new: before its job's end, and not all of them at once."""
    walltime = settings.jobs.walltime or section.get("walltime")
    if not walltime:
        return {}
    whole = walltime_s(str(walltime), str(settings.batch_system))
    margin = min(whole / 2, max(_LEAST_MARGIN_S, min(whole / 10, _MOST_MARGIN_S)))
    return {"duration": f"{whole - margin:.0f}s", "stagger": f"{margin / 3:.0f}s"}


def _cores(settings: ClusterSettings, section: Mapping[str, Any]) -> int:
    return int(settings.jobs.cores or section.get("cores") or _CORES)


def _memory(settings: ClusterSettings, section: Mapping[str, Any]) -> str:
    return str(settings.jobs.memory or section.get("memory") or _MEMORY)
