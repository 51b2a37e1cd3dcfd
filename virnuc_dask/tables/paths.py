"""Paths that users gave: what the system says of them, in one line."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from virnuc_dask.errors import (
    BadInputError,
    BadOutputError,
    CannotWriteError,
    UsageError,
    VirnucError,
)

Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A path, or several."""

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


def _is_of_a_path(error: OSError | ValueError) -> bool:
    """Names that cannot be are a `ValueError` with Python."""
    return isinstance(error, OSError | UnicodeEncodeError) or "null byte" in str(error)


def given_inputs(inputs: Inputs) -> tuple[str, ...]:
    """Inputs as text, each of them there and once: nothing is started for a misspelt name.

    Raises
    ------
    UsageError
        If there is none, or a file, or standard input, is given twice.
    BadInputError
        If one is no file that can be opened.
    """
    several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    names = tuple(os.fspath(name) for name in several)
    if not names:
        raise UsageError("no input: give FASTA or FASTQ files.")
    seen: dict[tuple[int, int], str] = {}
    for name in names:
        identity = _identity(name)
        if identity in seen:
            _refuse_twice(seen[identity], name)
        seen[identity] = name
    return names


def _refuse_twice(earlier: str, name: str) -> None:
    if STDIN in (earlier, name):
        raise UsageError("standard input is given twice; it can be read once.")
    same = "is given twice" if earlier == name else f"is the same file as {earlier}"
    raise UsageError(f"{name}: {same}; its records would count twice.")


def _identity(name: str) -> tuple[int, int]:
    """Device and number of a file that is there, so that it is known by all its names."""
    with reading(name):
        try:
            state = os.fstat(0) if name == STDIN else Path(name).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadInputError(f"{name}: no such file.{_hint(name)}") from error
    if stat.S_ISDIR(state.st_mode):
        raise BadInputError(f"{name}: is a folder; give the files in it, such as {name}/*.fasta.")
    return state.st_dev, state.st_ino


def given_output(path: str | os.PathLike[str]) -> Path:
    """A path to write; `BadOutputError` for an address: it would become folders of this machine."""
    if "://" in os.fspath(path):
        raise BadOutputError(f"{path}: looks like an address; give a folder of this machine.")
    return Path(path)


def _hint(name: str) -> str:
    """What somebody who gave this as a file may have meant."""
    if _ADDRESS.match(name):
        return " It looks like an address: download it first, or pipe it into `run -`."
    if name.startswith("@"):
        return f" Lists of files are not read; a shell writes them out: $(cat {name[1:]})."
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
        if not _is_of_a_path(error):
            raise
        if done == "written" and isinstance(error, OSError) and error.errno in _FULL:
            kind = CannotWriteError
        raise kind(f"{path}: cannot be {done}: {reason(error)}.") from error
