"""Where a cluster listens, and who else can reach it there."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from virnuc_dask.errors import NoClusterError


def refuse_foreign_host(host: str) -> None:
    """`NoClusterError` if ``host`` is no address of this machine."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise NoClusterError(
                f"setting cluster.host: {host} is no address of this machine ({error.strerror})."
            ) from error


def note_on_access(address: str) -> str:
    """A note on a cluster where all who reach its address can have code run."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    here = host == "localhost" or host.startswith("127.") or host == "::1"
    if parts.scheme != "tcp" or here:
        return ""
    return f"{address} asks for no certificate: whoever reaches it can run code on its workers."
