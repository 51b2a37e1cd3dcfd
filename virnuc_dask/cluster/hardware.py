"""What workers compute with: asked of them before anything is planned, decided by the weakest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed import Client, KilledWorker

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.connect import Connection, device_of
from virnuc_dask.config import ClusterSettings
from virnuc_dask.encoders.processor import Processor, this_processor, weakest
from virnuc_dask.errors import NoClusterError
from virnuc_dask.modelsets.source import ModelSource

DISTRIBUTION = "virnuc-dask"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a run computes with: a device, and of CPUs the processor."""

    device: str  # cpu, cuda
    processor: Processor


def hardware_of(settings: ClusterSettings, client: Client | None) -> Hardware:
    """What a run computes with: this machine, or without None what ``client``'s workers have.

    Where one of them has a GPU those without get nothing to do, and else the CPUs compute as the
    weakest of them can: results do not depend on who computes what. `NoClusterError` if no worker
    comes, none has the GPU that is asked for, or versions differ.
    """
    if client is None:
        device = device_of(settings)
        # The driver may find GPUs that torch was not built for: what computes can ask torch.
        if device == "cuda" and settings.kind == "none" and settings.device == "auto":
            device = hardware_here().device
        return Hardware(device, this_processor())
    found = _ask(client, settings.patience_s)
    if settings.device == "cpu":
        return _weakest("cpu", found)
    gpus = [each for each in found if each.device == "cuda"]
    if settings.device == "cuda" and not gpus:
        raise NoClusterError(
            "--device cuda: torch finds no CUDA GPU on any worker; leave it out, or start workers "
            "that have one."
        )
    return _weakest("cuda", gpus) if gpus else _weakest("cpu", found)


def check_versions(client: Client) -> None:
    """Compare this program's version with those on the scheduler and on every worker.

    `NoClusterError` names the first that has another one, or none, and both versions.
    """
    here = version(DISTRIBUTION)
    # A function that any version has, and any Python.
    try:
        found = answer(client, client.run_on_scheduler, version, DISTRIBUTION)
        there = {"the scheduler": found}
        answers = ask_workers(client, version, DISTRIBUTION)
    except PackageNotFoundError as error:
        raise NoClusterError(
            f"the cluster has a process without virnuc_dask; install {here} on the scheduler and "
            "on every worker."
        ) from error
    there |= {f"worker {address}": found for address, found in answers.items()}
    for where, found in there.items():
        if found != here:
            raise NoClusterError(f"{where} {skew(found, here)}")


def skew(found: str, wanted: str) -> str:
    """What is said of a process that has another version of this program."""
    return f"has virnuc_dask {found}, this run {wanted}. Install the same version everywhere."


def ask_workers(client: Client, question: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """What each worker answers, by address; those that go away meanwhile do not.

    `NoClusterError` if the cluster goes away; anything else that a worker raises.
    """
    answers = answer(client, client.run, question, *args, on_error="return")
    for each in answers.values():
        if isinstance(each, Exception) and not isinstance(each, OSError):
            raise each
    return {k: each for k, each in answers.items() if not isinstance(each, OSError)}


def _ask(client: Client, timeout_s: float) -> list[Hardware]:
    """What every worker has; of a cluster without workers, what the first that comes has."""
    first = [] if answer(client, client.nthreads) else [_first_to_come(client, timeout_s)]
    check_versions(client)
    try:
        found = list(ask_workers(client, _asked).values()) or first
    except ImportError as error:
        raise NoClusterError(
            f"a worker cannot compute: {error}. Install there what is installed here."
        ) from error
    return found or [_first_to_come(client, timeout_s)]  # meanwhile all left


def _first_to_come(client: Client, timeout_s: float) -> Hardware:
    """Of a cluster that starts workers for tasks, and for nothing else: see Dask's `adapt`."""
    try:
        found = client.submit(version, DISTRIBUTION, pure=False).result(timeout=timeout_s)
        if found != version(DISTRIBUTION):
            raise NoClusterError(f"the first worker {skew(found, version(DISTRIBUTION))}")
        return client.submit(hardware_here, pure=False).result(timeout=timeout_s)
    except TimeoutError as error:
        raise NoClusterError(
            f"no worker came to {client.scheduler_info()['address']} within {timeout_s:.0f} s. "
            "Start workers there, or wait longer (setting cluster.worker_timeout_s)."
        ) from error
    except CancelledError as error:
        raise NoClusterError(f"the cluster went away ({error}).") from error
    except KilledWorker as error:
        raise NoClusterError(
            "workers die before they compute anything; their own logs say why."
        ) from error
    except PackageNotFoundError as error:
        raise NoClusterError(
            "the cluster's workers have no virnuc_dask; install it there."
        ) from error


async def _asked() -> Hardware:
    # In a thread: torch takes seconds to import, and a worker that is silent is taken for dead.
    return await asyncio.to_thread(hardware_here)


def hardware_here() -> Hardware:
    """What this process would compute with. Imports torch: for workers."""
    from virnuc_dask.modelsets.modelset import resolve_device

    return Hardware(resolve_device(ModelSource("", "")), this_processor())


def _weakest(device: str, found: Iterable[Hardware]) -> Hardware:
    return Hardware(device, weakest(each.processor for each in found))


def describe(connection: Connection, hardware: Hardware) -> dict[str, Any]:
    """What computes a run, for its log and its summary."""
    return {
        "kind": connection.kind,
        "workers": connection.workers,
        "threads": connection.settings.threads,
        "device": hardware.device,
        "instructions": hardware.processor.instructions,  # of the weakest CPU
        "dashboard": connection.dashboard,
    }
