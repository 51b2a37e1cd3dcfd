"""Work in another process: nothing of torch, CUDA or memory stays behind in this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import ParamSpec, TypeVar

from virnuc_dask.errors import LostRowsError

P = ParamSpec("P")
Result = TypeVar("Result")
Tell = Callable[[str], None]  # told as it comes, in the process that measures


def in_own_process(work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Call ``work`` in a fresh process, which ends with this one, and wait for what it returns.

    `LostRowsError` if the process died, most often for want of memory; else what ``work`` raised.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _end_with_the_parent) as pool:
        try:
            return pool.submit(work, *args, **kwargs).result()
        except BrokenProcessPool:
            raise LostRowsError(
                "a measuring process died: out of memory? Choose a smaller model set or size."
            ) from None


def _end_with_the_parent() -> None:
    """A parent that is killed has no time to end this process."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
