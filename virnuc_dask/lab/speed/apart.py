"""Work in a process of its own: nothing of torch, CUDA or memory stays behind in this one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any, Concatenate, ParamSpec, TypeVar

from virnuc_dask.errors import LostRowsError, VirnucError

P = ParamSpec("P")
Result = TypeVar("Result")
Tell = Callable[[str], None]


def in_own_process(
    tell: Tell, work: Callable[Concatenate[Tell, P], Result], *args: P.args, **kwargs: P.kwargs
) -> Result:
    """Call ``work(tell, ...)`` in a fresh process and wait for what it returns.

    The process outlives neither this call nor the process that calls. Messages that it tells are
    passed on as they come.

    Raises
    ------
    VirnucError
        What ``work`` raised of that kind; any other error of it is a RuntimeError here.
    LostRowsError
        If the process died, most often for want of memory.
    """
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, work, args, kwargs), daemon=True)
    process.start()
    there.close()
    try:
        while True:
            kind, content = here.recv()
            if kind == "told":
                tell(content)
            elif kind == "failed":
                raise content
            else:
                returned: Result = content
                return returned
    except EOFError:
        process.join()
        raise LostRowsError(
            f"a measuring process died (exit code {process.exitcode}): out of memory? Choose a "
            "smaller model set or size."
        ) from None
    finally:
        process.terminate()
        process.join()


def _work(
    answer: Connection, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    # Ctrl-C reaches every process of a terminal; the one that waits ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        result = work(lambda message: answer.send(("told", message)), *args, **kwargs)
    except VirnucError as error:
        answer.send(("failed", error))
    except (RuntimeError, ValueError, TypeError, LookupError, OSError, MemoryError) as error:
        answer.send(("failed", RuntimeError(f"{type(error).__name__}: {error}")))
    else:
        answer.send(("done", result))


def _end_with_the_parent() -> None:
    """A parent that is killed has no time to end this process."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
