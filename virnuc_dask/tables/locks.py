"""Locks between processes, on disks without locks too."""

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
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock ``path`` for as long as the block runs.

    Where the file system has no locks, a separate file says who holds it; one of a
    process of this machine that is dead does not count.

    Raises
    ------
    OutputInUseError
        With ``refusal``, if another process holds it.
    """
    try:
        lock = _acquired(FileLock(path), refusal)
    except (OSError, NotImplementedError) as error:  # the latter is an older filelock's
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        soft = path.with_name(path.name + SOFT)
        hint = f"{refusal} If none is (a machine that went down leaves it), remove {soft}."
        lock = _acquired(SoftFileLock(soft), hint)
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock, refusal: str) -> BaseFileLock:
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputInUseError(refusal) from error
    return lock
