"""Clusters that are running already: how to reach one."""

from __future__ import annotations

from pathlib import Path

from distributed import Client, Security

from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import NoClusterError


def connect_given(settings: ClusterSettings) -> Client:
    """A client of the cluster that ``scheduler`` or ``scheduler_file`` names.

    Raises
    ------
    NoClusterError
        If a file is missing, or no scheduler answers.
    """
    refuse_missing_files(settings)
    where = settings.scheduler_file or settings.scheduler
    security = _certificates(settings)
    try:
        if settings.scheduler_file is not None:
            return Client(scheduler_file=settings.scheduler_file, security=security)
        return Client(settings.scheduler, security=security)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        # Types and states: how Dask says that one side has TLS and the other has not.
        raise NoClusterError(
            f"no scheduler answers at {where}: {error}. Is it running, and if it is protected "
            "(tls://), are the three --tls options those of its cluster?"
        ) from error


def refuse_missing_files(settings: ClusterSettings) -> None:
    """Find out early whether the scheduler file and the certificates are there.

    Raises
    ------
    NoClusterError
        If one is missing: Client waits for ever for a scheduler file.
    """
    file = settings.scheduler_file
    if file is not None and not Path(file).is_file():
        raise NoClusterError(f"{file}: no such scheduler file; is the scheduler running?")
    for name in filter(None, _certificate_files(settings)):
        if not Path(name).is_file():
            raise NoClusterError(f"{name}: no such file; the three --tls options name files.")


def _certificates(settings: ClusterSettings) -> Security | None:
    """The certificates that were named; None leaves it to Dask's own configuration."""
    authority, certificate, key = _certificate_files(settings)
    if authority is None:
        return None
    return Security(
        tls_ca_file=authority,
        tls_client_cert=certificate,
        tls_client_key=key,
        require_encryption=True,
    )


def _certificate_files(settings: ClusterSettings) -> tuple[str | None, str | None, str | None]:
    return settings.tls_ca_file, settings.tls_cert, settings.tls_key
