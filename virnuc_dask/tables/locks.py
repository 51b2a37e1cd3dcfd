"""Locks between processes, on disks too that have none of their own."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from virnuc_dask.errors import OutputInUseError

# What network disks without locks answer; of ``ENOSYS`` filelock takes care itself.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
SOFT = ".soft"  # how a lock's name ends that is a file and no more


@contextmanager
def locked(path: Path, refusal: str, timeout_s: float = 0) -> Iterator[None]:
    """Hold the lock ``path`` for as long as the block runs.

    Where the file system has no locks, a separate file says who holds it; one of a
    process of this machine that is dead does not count.

    Raises
    ------
    OutputInUseError
        With ``refusal``, if another process holds it for longer than ``timeout_s`` (-1: waits).
    """
    lock = _acquired(path, refusal, timeout_s)
    try:
        yield
    finally:
        lock.release()


def _acquired(path: Path, refusal: str, timeout_s: float) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputInUseError(refusal) from error
    except (OSError, NotImplementedError) as error:  # the latter is an older filelock's
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        return _acquired_softly(path.with_name(path.name + SOFT), refusal, timeout_s)
    return lock


def _acquired_softly(path: Path, refusal: str, timeout_s: float) -> BaseFileLock:
    lock = SoftFileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputInUseError(
            f"{refusal} If none is (a machine that went down leaves it), remove {path}."
        ) from error
    return lock
