"""What keeps a cluster on this machine from starting, told early; and who can reach it."""

from __future__ import annotations

import resource
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import current_process
from pathlib import Path
from urllib.parse import urlsplit

import dask.config

from virnuc_dask.errors import BadSettingError, NoClusterError

# Python, Dask and torch with a worker's threads took 1.2 to 1.8 GB; memory is a third of that.
_ADDRESS_SPACE_BYTES = 2_000_000_000
PORT_TAKEN = r"\s*Port \d+ is already in use"  # Dask's warning
_GUARD = 'if __name__ == "__main__":'


def refuse_small_address_space() -> None:
    """`NoClusterError` if processes may have too little address space to load torch."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE_BYTES:
        raise NoClusterError(
            f"a process may have {limit / 1e9:.1f} GB of address space here (ulimit -v), and even "
            f"small models need {_ADDRESS_SPACE_BYTES / 1e9:.0f} GB; raise the limit."
        )


def refuse_unstartable(host: str) -> None:
    """Find out early, and without starting anything, why workers would not start here.

    `NoClusterError` if ``host`` is no address of this machine, `BadSettingError` if Dask's
    temporary directory cannot be written.
    """
    if getattr(current_process(), "_inheriting", False):
        # A worker that imports the script it was started from, and came to the very call that
        # started it: it can only end, and the client tells why.
        raise SystemExit(1)
    refuse_foreign_host(host)
    _refuse_unwritable_directory()


@contextmanager
def starting() -> Iterator[None]:
    """Say in one line, as `NoClusterError`, why a cluster does not start."""
    try:
        with warnings.catch_warnings():
            # Dask takes any other then, and the line that tells of the cluster names it.
            warnings.filterwarnings("ignore", PORT_TAKEN)
            yield
    except (RuntimeError, OSError, MemoryError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise NoClusterError(
            f"the workers did not start: {str(reason) or type(reason).__name__}. Does a script "
            f"call this without `{_GUARD}`, or from no file, or is memory short (ulimit -v)? Once "
            "that is done, continue with --resume."
        ) from None  # Dask's own errors on the way from there say no more


def _refuse_unwritable_directory() -> None:
    """`BadSettingError` if workers would have no place for their temporary files."""
    name = dask.config.get("temporary-directory", None) or None
    try:
        if name is not None:  # Dask makes it too
            Path(name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=name):
            pass
    except (OSError, TypeError) as error:
        raise BadSettingError(
            f"{name or 'temporary directory'}: workers cannot write here "
            f"({getattr(error, 'strerror', None) or error}); set DASK_TEMPORARY_DIRECTORY, or "
            "temporary-directory in Dask's configuration, to a folder that they can write."
        ) from error


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
