"""A cluster to work on: one that is running already, one of GPUs, one of CPU cores, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import dask.config
import distributed.system
from distributed import Client, LocalCluster

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.given import connect_given, refuse_missing_files
from virnuc_dask.cluster.gpus import count_gpus, gpu_memory_bytes, why_no_dask_cuda
from virnuc_dask.cluster.job_scripts import refuse_unsubmittable
from virnuc_dask.cluster.start_up import (
    ensure_home,
    note_on_access,
    refuse_small_address_space,
    refuse_unstartable,
    starting,
)
from virnuc_dask.config import ClusterSettings, cores
from virnuc_dask.errors import NoClusterError
from virnuc_dask.modelsets.environment import prepare_torch

GIVEN = "given"
# What a worker needs: Python, torch and a partition; and its weights, once and a half (parts of
# them are rearranged; what is mapped from the file is shared and can be given back).
_WORKER_BYTES, _WEIGHT_COPIES = 1_000_000_000, 1.5
# Share of the cores that workers of one size must use at least.
_CORES_USED = 0.9
# Share of a GPU that the weights take at most where there is room beside them; partitions in work
# there, and where encoders may have to change places.
_ROOMY, _PIPELINE, _GROUP = 0.75, 3, 16
_CLOSE_S = 60.0  # that a cluster may take to close; it gives its workers five seconds each
# What Dask would do otherwise in the workers that we start. Held by tests/cluster/test_connect.py.
FOR_WORKERS = {
    # A nanny has its worker give memory back to the system at every opportunity; the encoders then
    # wait for new pages at every step: ESM-2 in bf16 at half its speed, frames at a fifth.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    # Tasks run in a thread, and glibc gives a thread's memory back even so; the main thread's it
    # keeps, and with one arena for all that is everyone's: another 5 %.
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": "1",
    # A worker looks at its own stack a hundred times a second and keeps the profile of every
    # second of the last hour, some 300 MB. One of each minute is enough for the dashboard.
    "distributed.worker.profile.interval": "100ms",
    "distributed.worker.profile.cycle": "60s",
}
# And on a scheduler in this process.
FOR_SCHEDULER = {
    # A nanny starts its worker again whenever that dies. A cluster that finds a worker missing 15 s
    # after it died, because it died again or starts slowly, would close the nanny, for good.
    # Held by tests/faults/test_workers.py.
    "distributed.deploy.lost-worker-timeout": "1 day",
    # It keeps the last thousand messages to each worker, 2.3 kB each, for developers of Dask.
    "distributed.admin.low-level-log-length": 100,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """A cluster, or none.

    ``kind`` is ``none``, ``cpu``, ``cuda``, a batch system or ``given`` (not started here);
    ``settings`` have everything that was automatic decided.
    """

    client: Client | None
    kind: str
    settings: ClusterSettings
    note: str = ""  # why this kind, where that is not obvious, and who else can reach it
    page: str = "status"  # of the dashboard, that people are led to
    topic: str = field(default_factory=lambda: f"virnuc-{uuid4().hex[:8]}")  # tells runs apart

    @property
    def workers(self) -> int:
        """Workers there are now; 1 without a cluster: this process."""
        return len(answer(self.client, self.client.nthreads)) if self.client is not None else 1

    @property
    def in_flight(self) -> int:
        """Partitions submitted for each worker: at least one more than it has in work."""
        return max(self.settings.partitions_in_flight, (self.settings.partitions_at_once or 1) + 1)

    @property
    def dashboard(self) -> str | None:
        """Address of the run's page on the Dask dashboard, or of Dask's own."""
        link = self.client.dashboard_link if self.client is not None else None
        return urljoin(link, self.page) if link else None

    def __str__(self) -> str:
        if self.client is None:
            return "In this process, without Dask workers."
        kind = {"cpu": "CPU", "cuda": "GPU"}.get(self.kind, "Dask")
        return f"{self.workers} {kind} worker(s), dashboard {self.dashboard}"


@contextmanager
def reached(settings: ClusterSettings, client: Client | None = None) -> Iterator[Client | None]:
    """A client of the cluster that is running already, if one is to be used; starts nothing.

    ``client`` is used as it is. With ``kind="auto"`` a running cluster named by ``scheduler``,
    ``scheduler_file`` or ``DASK_SCHEDULER_ADDRESS`` is used; `NoClusterError` if it is not there.
    """
    if client is None:
        kind, settings, _ = _decide(settings)
        if kind == GIVEN:
            with connect_given(settings) as own:
                yield own
            return
    yield client


@contextmanager
def connect(
    settings: ClusterSettings,
    weight_bytes: int,
    client: Client | None = None,
    partitions: int | None = None,
) -> Iterator[Connection]:
    """Use a cluster, or start one and close it afterwards.

    As `reached`; without a running cluster the GPUs are used, else the CPU. ``weight_bytes`` of
    both encoders, in the precision that they compute in, say how many workers fit into memory; no
    more are started than there are ``partitions``, unless ``settings`` say how many.
    `NoClusterError` if there is no such cluster, or no worker of one started here within
    ``worker_timeout_s``.
    """
    with reached(settings, client) as running:
        if running is not None:
            note = note_on_access(running.scheduler_info()["address"])
            yield Connection(running, settings.batch_system or GIVEN, settings, note)
            return
    kind, settings, note = _decide(settings)
    if kind == "none":
        yield Connection(None, kind, settings, note)
        return
    with _started(kind, settings, weight_bytes, partitions) as (own, settings):
        note = " ".join(filter(None, (note, note_on_access(f"tcp://{settings.host}"))))
        _wait_for_workers(own, settings)
        yield Connection(own, kind, settings, note)


def refuse_impossible(settings: ClusterSettings) -> None:
    """Find out early, and without starting anything, what `connect` would refuse.

    `NoClusterError` if the settings contradict each other, or ask for GPUs, an address or a file
    that is not there; `UsageError` if the workers could not write their temporary files.
    """
    kind, settings, _ = _decide(settings)
    if settings.batch_system:
        refuse_unsubmittable(settings)
        return
    if kind == "cuda":
        _count_gpu_workers(settings)
    if kind != GIVEN:
        refuse_small_address_space()
    if kind in ("cpu", "cuda"):
        refuse_unstartable(settings.host)
    refuse_missing_files(settings)


def names_running(settings: ClusterSettings) -> bool:
    """Whether the settings name a cluster that is running already."""
    address = settings.scheduler or dask.config.get("scheduler-address", None)
    return settings.kind == "auto" and bool(address or settings.scheduler_file)


def device_of(settings: ClusterSettings) -> str:
    """``cpu`` or ``cuda``: what computes where this machine does, as far as its driver can tell.

    Of a batch system's jobs what they ask for; their workers are asked once they have come.
    """
    kind, settings, _ = _decide(settings)
    if settings.batch_system:
        return "cuda" if settings.jobs.gpus and settings.device != "cpu" else "cpu"
    if "cpu" in (kind, settings.device):
        return "cpu"
    asked = "cuda" in (kind, settings.device)
    return "cuda" if asked or count_gpus()[0] else "cpu"


def local_workers(
    settings: ClusterSettings, weight_bytes: int, partitions: int | None = None
) -> tuple[int, int]:
    """Workers and torch threads of each on this machine: a worker a core where memory allows.

    Elsewhere as many workers as fit and still leave few cores over. A worker costs seconds of a
    core before it computes anything: there are no more than ``partitions``. ``weight_bytes`` are
    those of both encoders, in the precision that they compute in.
    """
    most = cores()
    fit = max(1, min(most, int(memory_bytes() // worker_bytes(weight_bytes)), partitions or most))
    used = {workers: workers * (most // workers) / most for workers in range(1, fit + 1)}
    workers = settings.workers or max(w for w, share in used.items() if share >= _CORES_USED)
    return workers, settings.threads or max(1, most // workers)


def worker_bytes(weight_bytes: int) -> int:
    """Memory that a worker takes on a CPU."""
    return int(_WORKER_BYTES + _WEIGHT_COPIES * weight_bytes)


def memory_bytes() -> int:
    """Memory that this process may use: its container's or its batch job's share."""
    return int(distributed.system.MEMORY_LIMIT)


def _decide(settings: ClusterSettings) -> tuple[str, ClusterSettings, str]:
    """Kind of cluster, the settings for it, and a note on why."""
    if settings.kind == "auto":
        address = settings.scheduler
        if address is None and settings.scheduler_file is None:
            address = dask.config.get("scheduler-address", None) or None
        if address is not None or settings.scheduler_file is not None:
            return GIVEN, replace(settings, scheduler=address), ""
        if settings.tls_ca_file is not None:
            raise NoClusterError("--tls-ca-file: for a running cluster; name it with --scheduler.")
        return _decide_by_gpu(settings)
    if settings.scheduler is not None or settings.scheduler_file is not None:
        raise NoClusterError(
            f"--cluster {settings.kind} starts its own cluster; leave it out to use a running one."
        )
    return settings.kind, settings, ""


def _decide_by_gpu(settings: ClusterSettings) -> tuple[str, ClusterSettings, str]:
    cpu = replace(settings, device="cpu")
    if settings.device == "cpu":
        return "cpu", cpu, ""
    count, reason = count_gpus()
    if count and (missing := why_no_dask_cuda()):
        reason = missing
    if not reason:
        return "cuda", settings, ""
    if settings.device == "cuda":
        raise NoClusterError(f"--device cuda: {reason}.")
    return "cpu", cpu, f"No GPU workers: {reason}. Using the CPU."


@contextmanager
def _started(
    kind: str, settings: ClusterSettings, weight_bytes: int, partitions: int | None
) -> Iterator[tuple[Client, ClusterSettings]]:
    prepare_torch()
    ensure_home()
    start = {"cuda": _start_cuda, "cpu": _start_cpu}[kind]
    with dask.config.set(FOR_SCHEDULER):
        with starting(), dask.config.set(FOR_WORKERS):
            cluster, settings = start(settings, weight_bytes, partitions)
        with _closing(cluster):
            with starting():
                client = Client(cluster)
            with _closing(client):
                yield client, settings


@contextmanager
def _closing(opened: Any) -> Iterator[None]:
    """Close it, in time: the run is done.

    A worker that outlives the seconds it is given, on a machine short of everything, ends with this
    process.
    """
    try:
        yield
    finally:
        with suppress(TimeoutError):
            opened.close(timeout=_CLOSE_S)


def _start_cpu(
    settings: ClusterSettings, weight_bytes: int, partitions: int | None
) -> tuple[Any, ClusterSettings]:
    workers, threads = local_workers(settings, weight_bytes, partitions)
    at_once = settings.partitions_at_once or 1  # cores that compute have no time to spare
    settings = replace(
        settings, workers=workers, threads=threads, device="cpu", partitions_at_once=at_once
    )
    return LocalCluster(**_arguments(settings)), settings


def _start_cuda(
    settings: ClusterSettings, weight_bytes: int, partitions: int | None
) -> tuple[Any, ClusterSettings]:
    workers = _count_gpu_workers(settings)
    if settings.workers is None and partitions is not None:
        workers = min(workers, partitions)
    from dask_cuda import LocalCUDACluster

    at_once = settings.partitions_at_once or _partitions_at_once(weight_bytes)
    threads = settings.threads or max(1, cores() // workers)
    settings = replace(
        settings, workers=workers, threads=threads, device="cuda", partitions_at_once=at_once
    )
    # Kilobytes travel, and GPU memory is torch's alone: plain TCP, no RMM, no spilling.
    cluster = LocalCUDACluster(protocol="tcp", device_memory_limit=None, **_arguments(settings))
    return cluster, settings


def _partitions_at_once(weight_bytes: int) -> int:
    """Three: while one computes, the next one is prepared and the one before is written.

    Where a GPU hardly holds the weights, its worker may load the encoders in turn; as many
    partitions as it has in work then share each change.
    """
    return _PIPELINE if weight_bytes < _ROOMY * gpu_memory_bytes() else _GROUP


def _count_gpu_workers(settings: ClusterSettings) -> int:
    count, reason = count_gpus()
    if reason := reason or why_no_dask_cuda():
        raise NoClusterError(f"--cluster cuda: {reason}.")
    workers = settings.workers or count
    if workers > count:
        raise NoClusterError(f"{workers} GPU workers were asked for, but there are {count} GPUs.")
    return workers


def _arguments(settings: ClusterSettings) -> dict[str, Any]:
    """Of every cluster on this machine: where it listens, a thread for each partition."""
    return {
        "n_workers": settings.workers,
        "threads_per_worker": settings.partitions_at_once,
        "preload": ["virnuc_dask.cluster.interrupts"],
        "host": settings.host,
        "dashboard_address": f"{settings.host}:{settings.dashboard_port}",
    }


def _wait_for_workers(client: Client, settings: ClusterSettings) -> None:
    try:
        client.wait_for_workers(1, timeout=settings.patience_s)
    except TimeoutError as error:
        raise NoClusterError(
            f"no worker came within {settings.patience_s:.0f} s. Wait longer (setting "
            "cluster.worker_timeout_s), or ask for fewer (--workers), and continue with --resume."
        ) from error
