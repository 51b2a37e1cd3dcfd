"""What the commands say. What cannot be said is no failure: results lie on disk."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

import click

from virnuc_dask.errors import harmless


def say(text: str, *, err: bool = False, level: str = "") -> None:
    """Print ``text``; names in it that come from files cannot steer the terminal.

    A ``level``, which is green, yellow or red, stands before it, on a terminal in its colour.

    Letters that the stream cannot take are spelt out. Where it takes nothing, as on a full disk,
    standard error says so, if it can.
    """
    stream = sys.stderr if err else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = harmless(text).encode(encoding, "backslashreplace").decode(encoding)
    if level:
        shown = click.style(f"  {level:<8}", fg=level) + shown
    try:
        if stream is None:
            raise OSError(errno.EBADF, "it is closed")
        click.echo(shown, err=err)
    except (OSError, ValueError) as error:  # ValueError: closed by Python
        _silence(2 if err else 1)
        if not err and not isinstance(error, BrokenPipeError):  # `head` has seen enough
            reason = getattr(error, "strerror", None) or error
            say(f"warning: standard output cannot be written: {reason}.", err=True)


def _silence(number: int) -> None:
    """Let what waits for a standard stream go nowhere: Python tries again when it ends."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def open_standard_streams() -> None:
    """Give standard streams that are closed a place: the next file would take their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
