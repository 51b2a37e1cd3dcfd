"""Clusters that are running already: how to reach one."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import dask.config
from distributed import Client, Security

from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import NoClusterError

# A scheduler file on a shared disk can be seen before it is whole.
_FILE_S, _PAUSE_S = 2.0, 0.1


def connect_given(settings: ClusterSettings) -> Client:
    """A client of the cluster that ``scheduler`` or ``scheduler_file`` names.

    `NoClusterError` if a file is missing or cut short, or no scheduler answers.
    """
    refuse_missing_files(settings)
    address, security = settings.scheduler, None  # which leaves it to Dask's own configuration
    if settings.scheduler_file is not None:
        address = address_in(Path(settings.scheduler_file))
    if settings.tls_ca_file is not None:
        security = Security(
            tls_ca_file=settings.tls_ca_file,
            tls_client_cert=settings.tls_cert,
            tls_client_key=settings.tls_key,
            require_encryption=True,
        )
    try:
        return Client(address, timeout=settings.scheduler_timeout_s, security=security)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        # Types and states: how Dask says that one side has TLS and the other has not.
        raise NoClusterError(
            f"no scheduler answers at {address} ({_origin(settings)}): {error}. Is it running, and "
            "if it is protected (tls://), are the three --tls options those of its cluster?"
        ) from error


def address_in(file: Path) -> str:
    """The address of the scheduler that wrote ``file``.

    `NoClusterError` if there is none in it within two seconds.
    """
    deadline = time.monotonic() + _FILE_S
    while True:
        with suppress(OSError, ValueError, KeyError, TypeError):
            if address := str(json.loads(file.read_bytes())["address"]):
                return address
        if time.monotonic() >= deadline:
            raise NoClusterError(
                f"{file}: names no scheduler: it cannot be read, is cut short, or is another kind "
                "of file. Is the scheduler running?"
            )
        time.sleep(_PAUSE_S)


def refuse_missing_files(settings: ClusterSettings) -> None:
    """`NoClusterError` if the scheduler file or a certificate is not there."""
    file = settings.scheduler_file
    if file is not None and not Path(file).is_file():
        raise NoClusterError(f"{file}: no such scheduler file; is the scheduler running?")
    if file is not None:
        address_in(Path(file))
    for name in filter(None, (settings.tls_ca_file, settings.tls_cert, settings.tls_key)):
        if not Path(name).is_file():
            raise NoClusterError(f"{name}: no such file; the three --tls options name files.")


def _origin(settings: ClusterSettings) -> str:
    if settings.scheduler_file is not None:
        return str(settings.scheduler_file)
    if settings.scheduler != dask.config.get("scheduler-address", None):
        return "--scheduler, or setting cluster.scheduler"
    if "DASK_SCHEDULER_ADDRESS" in os.environ:
        return "from the environment: DASK_SCHEDULER_ADDRESS"
    return "scheduler-address in Dask's configuration"
