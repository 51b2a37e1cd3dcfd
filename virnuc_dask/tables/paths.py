"""Paths that users gave: what the system says of them, in one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from virnuc_dask.errors import BadInputError, BadOutputError, CannotWriteError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeEncodeError):
        return "the file system cannot hold such a name"
    return str(error)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of an input into `BadInputError`."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path}: cannot be read: {reason(error)}.") from error


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of an output into `BadOutputError`; `CannotWriteError` if full."""
    try:
        yield
    except (OSError, ValueError) as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        kind = CannotWriteError if full else BadOutputError
        raise kind(f"{path}: cannot be written: {reason(error)}.") from error
