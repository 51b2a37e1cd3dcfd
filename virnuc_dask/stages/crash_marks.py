"""Marks of what is being computed, so that a death of the process that computes it is seen.

Dask counts a worker's death against all tasks that were assigned to it, also those that merely
waited. A mark is on disk only while something is computed: one that is still there when that
begins again tells that its process died of it, or at least during it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from virnuc_dask.errors import CannotWriteError
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask, Rows

# Marks of what this process computes now.
_current: set[Path] = set()
# What a mark is of, besides some rows.
WHOLE, CONTROL, PREDICT = "whole", "control", "predict"
# A whole partition can be hit by the death of another one beside it; a chunk is given up for no
# fewer than two deaths of workers that computed nothing else.
DEATHS_OF_PARTITION, DEATHS_OF_CHUNK = 3, 2
_MARK = re.compile(
    r"(part-\d{5,})\.(whole|control|predict|rows-(\d+)-(\d+))\.[0-9a-f]{12}\.attempt"
)


class WorkerDiedError(RuntimeError):
    """Every process that computed this so far died while it did."""

    @classmethod
    def after(cls, deaths: int) -> WorkerDiedError:
        """The error after so many deaths."""
        return cls(f"its worker died {deaths} time(s) while computing it (out of memory?)")


@dataclass(frozen=True, slots=True)
class CrashMarks:
    """Marks of one partition's attempts."""

    folder: Path
    partition: str

    @classmethod
    def of(cls, task: PartitionTask) -> CrashMarks:
        """The marks of a task's partition."""
        return cls(task.folder.unfinished, task.name)

    @contextmanager
    def attempt(self, what: str = WHOLE) -> Iterator[None]:
        """Leave a mark while this runs; `CannotWriteError` if it cannot be written."""
        mark = self.folder / f"{self.partition}.{what}.{uuid4().hex[:12]}.attempt"
        try:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()
            _current.add(mark)
        except OSError as error:
            raise CannotWriteError(f"{mark}: cannot be written: {error.strerror}.") from error
        try:
            yield
        finally:
            _current.discard(mark)
            mark.unlink(missing_ok=True)

    def deaths(self, what: str = WHOLE) -> int:
        """Attempts that did not end; those that run now count too."""
        return sum(1 for _ in self.folder.glob(f"{self.partition}.{what}.*.attempt"))

    def deaths_within(self, rows: Rows) -> int:
        """Attempts at these rows, or at some of them, that did not end."""
        names = (path.name for path in self.folder.glob(f"{self.partition}.rows-*.attempt"))
        spans = ((int(m[3]), int(m[4])) for m in map(_MARK.fullmatch, names) if m)
        return sum(rows[0] <= first and end <= rows[1] for first, end in spans)

    def forget(self) -> None:
        """Remove the marks of a partition that is computed."""
        for mark in self.folder.glob(f"{self.partition}.*.attempt"):
            mark.unlink(missing_ok=True)


def forgive_death() -> None:
    """Take back the marks of what this process computes: it will be ended, whatever that is."""
    for mark in list(_current):
        mark.unlink(missing_ok=True)


def rows_name(rows: Rows) -> str:
    """What marks of some rows are called."""
    return f"rows-{rows[0]}-{rows[1]}"


def refuse_deadly(task: PartitionTask) -> None:
    """`WorkerDiedError` if so many died of a partition that it is not tried beside others again."""
    marks = CrashMarks.of(task)
    deaths = marks.deaths()
    if not task.alone and (deaths >= DEATHS_OF_PARTITION or marks.deaths_within((0, task.chunks))):
        raise WorkerDiedError.after(max(deaths, 1))


def tidy_marks(folder: RunFolder, partitions: Container[str]) -> None:
    """Keep one mark of each rows of ``partitions``: they killed a worker, and may be tried again.

    What else was interrupted says nothing: the client may have ended, and its workers with it.
    """
    known: set[str] = set()
    for path in folder.unfinished.glob("part-*.attempt"):
        mark = _MARK.fullmatch(path.name)
        if mark is None:
            continue
        what = f"{mark[1]}.{mark[2]}"
        if mark[3] is None or mark[1] not in partitions or what in known:
            path.unlink(missing_ok=True)
        known.add(what)
    with suppress(OSError):
        folder.unfinished.rmdir()
