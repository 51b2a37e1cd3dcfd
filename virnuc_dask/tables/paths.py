"""Paths that users gave: what the system says of them, in one line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from virnuc_dask.errors import (
    BadInputError,
    BadOutputError,
    CannotWriteError,
    VirnucError,
)

STDIN = "-"
# `Path` leaves one of two slashes.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^/]")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeEncodeError):
        return "the file system cannot hold such a name"
    return str(error)


def given_output(path: str | os.PathLike[str]) -> Path:
    """A path to write; `BadOutputError` for an address: it would become folders of this machine."""
    if "://" in os.fspath(path):
        raise BadOutputError(f"{path}: looks like an address; give a folder of this machine.")
    return Path(path)


def hint(name: str) -> str:
    """What somebody who gave this as a file may have meant."""
    if _ADDRESS.match(name):
        return " It looks like an address: download it first, or pipe it into `run -`."
    return ""


def reading(path: str | os.PathLike[str]) -> AbstractContextManager[None]:
    """Turn what the system says of an input into `BadInputError`."""
    return _told(path, "read", BadInputError)


def writing(path: str | os.PathLike[str]) -> AbstractContextManager[None]:
    """Turn what the system says of an output into `BadOutputError`; `CannotWriteError` if full."""
    return _told(path, "written", BadOutputError)


@contextmanager
def _told(path: str | os.PathLike[str], done: str, kind: type[VirnucError]) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        # Names that cannot be are a `ValueError` with Python.
        if not isinstance(error, OSError | UnicodeEncodeError) and "null byte" not in str(error):
            raise
        if done == "written" and isinstance(error, OSError) and error.errno in _FULL:
            kind = CannotWriteError
        raise kind(f"{path}: cannot be {done}: {reason(error)}.") from error
