"""Which chunks of a partition cannot be computed: found by halving it, in one task.

No chunk is blamed for a fault of the machine or of the program. Before anything is halved, and
after chunks failed, a control is computed: a chunk that could be computed before. Where it fails,
no chunk is to blame. A chunk that kills the process is found in the same way: marks on disk tell
the next process which rows the last one computed when it died.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from traceback import clear_frames
from typing import TypeVar

import numpy as np
import pyarrow as pa

from virnuc_dask.stages.crash_marks import (
    CONTROL,
    DEATHS_OF_CHUNK,
    WHOLE,
    CrashMarks,
    WorkerDiedError,
    refuse_deadly,
    rows_name,
)
from virnuc_dask.stages.receipt import BUGS, CHUNK_FAILURES, Failure
from virnuc_dask.tables.plan import PartitionTask, Rows

T = TypeVar("T")
Compute = Callable[[Rows], pa.Table]
_PROBES, _DEADLY_PROBES = 4, 2  # single chunks that are tried for a control
_CHECK_EVERY = 64  # chunks given up, between two looks at the control


class ControlFailedError(RuntimeError):
    """A chunk that could be computed before cannot be computed any longer: ``error`` says why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def compute_chunks(
    task: PartitionTask,
    compute: Compute,
    control: Callable[[], object] | None = None,
    candidates: Callable[[], Sequence[int]] = lambda: (),
) -> tuple[pa.Table | None, tuple[Failure, ...]]:
    """Compute a partition; returns the table of all rows that can be computed, and the others.

    Parameters
    ----------
    compute
        Makes the table of some rows, in their order.
    control
        Computes a chunk of another partition that was computed before, if there is one.
    candidates
        Without it: rows of this partition, any of which can become the control.

    Raises
    ------
    WorkerDiedError
        If this partition killed its workers, and may run beside others.
    ControlFailedError
        If no chunk is to blame.
    Exception
        What every chunk that was tried raised, if there is no control.
    """
    refuse_deadly(task)
    return _Search(task, compute, control, candidates).run()


def reason_of(error: BaseException) -> str:
    """An error as people are told of it."""
    is_death = isinstance(error, WorkerDiedError)
    return str(error) if is_death else f"{type(error).__name__}: {error}"


@dataclass
class _Search:
    """One partition's way from an error to the chunks that are to blame."""

    task: PartitionTask
    compute: Compute
    control: Callable[[], object] | None
    candidates: Callable[[], Sequence[int]]
    tables: list[pa.Table] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.marks = CrashMarks.of(self.task)
        self.everything = (0, self.task.chunks)

    def run(self) -> tuple[pa.Table | None, tuple[Failure, ...]]:
        """As `compute_chunks`."""
        found = self._try_whole()
        if not isinstance(found, Exception):
            return found, ()
        self._find_control(found)
        if self.task.chunks == 1 and isinstance(found, WorkerDiedError):
            self._compute_or_halve(self.everything)  # it died beside others, and is alone now
        else:
            self._halve(self.everything, found)
        if self.failures:
            self._check_control(found)
            return self._together(), tuple(self.failures)
        table = self._whole_again()
        self.marks.forget()
        return table, ()

    def _try_whole(self) -> pa.Table | Exception:
        deaths = max(self.marks.deaths(), self.marks.deaths_within(self.everything))
        if deaths and self.task.alone:
            return WorkerDiedError.after(deaths)
        return self._attempt(WHOLE, self.everything)

    def _whole_again(self) -> pa.Table | None:
        """Nothing fails any more: matrices of another size can differ in the last bit."""
        name = rows_name(self.everything)
        if len(self.tables) == 1 or self.marks.deaths(name):
            return self._together()
        whole = self._attempt(name, self.everything)
        return self._together() if isinstance(whole, Exception) else whole

    def _together(self) -> pa.Table | None:
        return pa.concat_tables(self.tables) if self.tables else None

    def _compute_or_halve(self, rows: Rows) -> None:
        found = self._try(rows)
        if isinstance(found, Exception):
            self._halve(rows, found)
        else:
            self.tables.append(found)

    def _halve(self, rows: Rows, error: Exception) -> None:
        first, end = rows
        if end - first > 1:
            middle = (first + end) // 2
            self._compute_or_halve((first, middle))
            self._compute_or_halve((middle, end))
            return
        self.failures.append(Failure(self.task.index, reason_of(error), rows))
        if len(self.failures) % _CHECK_EVERY == 0:
            self._check_control(error)

    def _try(self, rows: Rows, deaths_allowed: int | None = None) -> pa.Table | Exception:
        """The table of ``rows``; or why there is none, deaths of earlier attempts included."""
        if deaths_allowed is None:
            deaths_allowed = DEATHS_OF_CHUNK if rows[1] - rows[0] == 1 else 1
        if (deaths := self.marks.deaths_within(rows)) >= deaths_allowed:
            return WorkerDiedError.after(deaths)
        return self._attempt(rows_name(rows), rows)

    def _attempt(self, what: str, rows: Rows) -> pa.Table | Exception:
        return _tried(self.marks.attempt(what), partial(self.compute, rows))

    def _find_control(self, error: Exception) -> None:
        """Make sure that something can be computed, or raise; a single chunk is its own probe."""
        if self.control is not None:
            self._check_control(error)
        if self.control is not None or self.task.chunks == 1:
            return
        rows = self.candidates()
        most = _DEADLY_PROBES if isinstance(error, WorkerDiedError) else _PROBES
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
        for row in (rows[place] for place in places):
            if not isinstance(self._try((row, row + 1), deaths_allowed=1), Exception):
                self.control = partial(self.compute, (row, row + 1))
                return
        raise error

    def _check_control(self, error: Exception) -> None:
        if self.control is None:
            raise error
        if deaths := self.marks.deaths(CONTROL):
            raise ControlFailedError(WorkerDiedError.after(deaths))
        found = _tried(self.marks.attempt(CONTROL), self.control)
        if isinstance(found, Exception):
            raise ControlFailedError(found) from found


def _tried(mark: AbstractContextManager[None], compute: Callable[[], T]) -> T | Exception:
    """What ``compute`` returns, or the error that a chunk can be to blame for."""
    try:
        with mark:
            return compute()
    except BUGS:
        raise
    except CHUNK_FAILURES as error:
        clear_frames(error.__traceback__)  # which would keep the memory of what failed
        return error
