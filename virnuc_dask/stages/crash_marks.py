"""Marks of what is being computed, so that a death of the process that computes it is seen.

Dask counts a worker's death against all tasks that were assigned to it, those too that merely
waited. A mark stands only while a task runs: one that is still there when the task starts again
tells that its process died of it, or at least during it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from virnuc_dask.errors import CannotWriteError
from virnuc_dask.tables.plan import PartitionTask

SUFFIX = ".attempt"
_ID = 12  # letters that tell two attempts apart

# A whole partition can be struck by chance; a chunk is given up for no less than two deaths of
# workers that computed nothing else.
_DEATHS_OF_PARTITION = 3
_DEATHS_OF_CHUNK = 2


class WorkerDiedError(RuntimeError):
    """Every process that computed this so far died while it did."""


class WorkerLostError(WorkerDiedError):
    """Workers died while this ran, or merely waited beside what ran."""


@contextmanager
def attempt(task: PartitionTask) -> Iterator[None]:
    """Leave a mark while ``task`` is computed.

    Raises
    ------
    WorkerDiedError
        If so many processes died during this task that it shall not be tried again as it is.
    """
    refuse_deadly(task)
    mark = task.folder.unfinished / f"{task.name}.{uuid4().hex[:_ID]}{SUFFIX}"
    try:
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    except OSError as error:
        raise CannotWriteError(f"{mark.parent}: cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def refuse_deadly(task: PartitionTask) -> None:
    """Raise `WorkerDiedError` if ``task`` was the last of too many processes."""
    deaths = count_deaths(task)
    if deaths >= deaths_allowed(task):
        raise WorkerDiedError(
            f"its worker died {deaths} time(s) while computing it (out of memory?)"
        )


def count_deaths(task: PartitionTask) -> int:
    """Attempts at ``task`` that did not end; those that run now count too."""
    return sum(1 for _ in _marks(task))


def deaths_allowed(task: PartitionTask) -> int:
    """How many deaths it takes to divide a task, or to give up one chunk.

    A piece that can be divided further is in doubt already: nothing is lost by dividing it.
    """
    if not task.is_piece:
        return _DEATHS_OF_PARTITION
    if task.is_trial:
        return 1
    return _DEATHS_OF_CHUNK if task.chunks == 1 else 1


def forget_attempts(task: PartitionTask) -> None:
    """Remove the marks of a task that is divided or given up."""
    for mark in _marks(task):
        mark.unlink(missing_ok=True)


def _marks(task: PartitionTask) -> Iterator[Path]:
    # Not `*`: a partition's name begins those of its pieces.
    return task.folder.unfinished.glob(f"{task.name}.{'?' * _ID}{SUFFIX}")
