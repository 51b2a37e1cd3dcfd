"""Which lines of the log are shown on standard error, and how."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from virnuc_dask.cluster.journal import logger
from virnuc_dask.errors import harmless

# Whose lines are shown too. Dask gives each of these loggers its own handler.
_DASKS = ("distributed", "distributed.client", "tornado.application", "asyncio")


def show_log(console: Console, *, quiet: bool, verbose: bool) -> None:
    """Show the log on standard error; on a terminal, what the progress bar does not tell better."""
    logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    # Dask's own lines too, or they would run across the progress bar; each by another handler,
    # because a LocalCluster changes the levels of the handlers it finds.
    for source in (logger, *map(logging.getLogger, _DASKS)):
        source.handlers[:] = [_handler(console, _Harmless() if verbose else _Brief())]
        source.propagate = False
    if not verbose:
        logging.getLogger("distributed.nanny").addFilter(_is_news)
    if console.is_terminal and not verbose:
        logger.handlers[0].addFilter(_headline)


class _Harmless(logging.Formatter):
    """Lines that a terminal can show, whatever names are in them."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


class _Brief(_Harmless):
    """Of a traceback its last line: Dask logs one for each connection that breaks off."""

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "".join(traceback.format_exception_only(*ei[:2])).rstrip()


def _handler(console: Console, formatter: logging.Formatter) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if console.is_terminal:
        # Through the console, so that lines and progress bar do not overwrite each other.
        handler = RichHandler(
            console=console, show_time=False, show_level=False, show_path=False, highlighter=None
        )
    handler.setFormatter(formatter)
    return handler


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is more than that a process is slow to end, which its nanny sees to."""
    return "still alive" not in record.getMessage()


def _headline(record: logging.LogRecord) -> bool:
    """Leave to the progress bar what it tells better."""
    return record.levelno > logging.INFO or getattr(record, "headline", False)
