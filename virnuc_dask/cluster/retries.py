"""Which partition is computed next, and what becomes of one that fails.

A chunk that raises costs only itself: `stages.bad_chunks` finds it in the partition's own task, and
the receipt names it. Here arrives what a task cannot settle:

- It killed its worker. It is computed again while nothing else is, so that nothing else dies.
- A file could not be read or written. It is tried once more.
- No chunk of it could be computed. If others can be, it is tried again with one of those as its
  control; if none ever was, and several partitions fail so, no chunk is to blame: the run ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from traceback import clear_frames
from typing import NamedTuple

from virnuc_dask.cluster.machine_faults import Cause, fault_behind
from virnuc_dask.errors import LostRowsError
from virnuc_dask.stages.bad_chunks import ControlFailedError, reason_of
from virnuc_dask.stages.receipt import Receipt
from virnuc_dask.tables.plan import PartitionTask

ALIKE = 3  # partitions of which nothing can be computed, or deaths, in a row: no chance any more


class _Failed(NamedTuple):
    task: PartitionTask
    error: BaseException

    @property
    def cause(self) -> Cause:
        return Cause.of(self.error)


class Retries:
    """Gives out partitions until each is computed, or cannot be.

    ``on_death`` is told of each one that is to be computed alone: index, chunks, reason.
    ``control`` is a partition that an earlier run computed.
    """

    def __init__(
        self,
        tasks: Iterable[PartitionTask],
        on_death: Callable[[int, int, str], None] = lambda *_: None,
        control: PartitionTask | None = None,
    ) -> None:
        self._waiting = deque(tasks)
        self._deadly: deque[PartitionTask] = deque()
        self._out: set[int] = set()  # indices of partitions given out, not back yet
        self._alone: int | None = None  # the one of those that must be the only one
        self._on_death = on_death
        self._control = control
        self._anything_computed = False  # in this run
        self._deaths_in_a_row = 0  # of partitions, nothing computed in between
        self._read_again: set[int] = set()
        self._kept_back: list[_Failed] = []

    @property
    def must_be_alone(self) -> bool:
        """Whether one that killed workers comes before all others, which may be no better."""
        in_doubt = not self._anything_computed or self._deaths_in_a_row >= ALIKE
        return bool(self._deadly) and self._alone is None and in_doubt

    def take(self, *, busy: bool = False) -> PartitionTask | None:
        """The next task; None if there is none now. ``busy``: whether others run already."""
        if self._alone is not None:
            return None
        if self._waiting and not self.must_be_alone:
            task = self._waiting.popleft()
        elif self._deadly and not busy:
            task = self._deadly.popleft()
            self._alone = task.index
        else:
            return None
        self._out.add(task.index)
        return task

    def again(self, task: PartitionTask) -> None:
        """Put back a task of which nothing is known yet."""
        self._end(task)
        (self._deadly if task.alone else self._waiting).append(task)

    def done(self, task: PartitionTask, receipt: Receipt) -> Iterator[Receipt]:
        """Take in a task's receipt; yields all that is settled by it.

        `LostRowsError` if it is for another number of chunks than the task has.
        """
        self._end(task)
        came_out = receipt.chunks + sum(failure.chunks for failure in receipt.failures)
        if came_out != task.chunks:
            raise LostRowsError(f"{task.name}: {task.chunks} chunks went in, {came_out} came out.")
        # Tables that were there already, and chunks without a frame, tell nothing.
        if receipt.frames and receipt.elapsed_s:
            self._anything_computed, self._deaths_in_a_row = True, 0
            computed = replace(task, alone=False, control=None)
            self._control = computed.lacking(receipt.failed_rows)
        yield receipt
        yield from self._judge()

    def failed(self, task: PartitionTask, error: BaseException) -> Iterator[Receipt]:
        """Take in that a task computed nothing; yields all that is settled by it.

        Raises what is to blame, if no chunk is: see `fault_behind`.
        """
        clear_frames(error.__traceback__)  # which would keep the memory of what failed
        self._end(task)
        failed = _Failed(task, error)
        if isinstance(error, ControlFailedError):
            raise fault_behind(error.error) from error
        if failed.cause is Cause.DEATH and not task.alone:
            self._compute_alone(failed)
        elif failed.cause is Cause.FILE and task.index not in self._read_again:
            self._read_again.add(task.index)
            self._waiting.append(task)
        else:
            self._kept_back.append(failed)
        yield from self._judge()

    def _end(self, task: PartitionTask) -> None:
        self._out.discard(task.index)
        if self._alone == task.index:
            self._alone = None

    def _compute_alone(self, failed: _Failed) -> None:
        self._deaths_in_a_row += 1
        self._deadly.append(replace(failed.task, alone=True, control=self._control))
        self._on_death(failed.task.index, failed.task.chunks, reason_of(failed.error))

    def _judge(self) -> Iterator[Receipt]:
        """Settle what was kept back, as soon as enough is known."""
        nothing_left = not (self._out or self._waiting or self._deadly)
        if self._control is None and self._kept_back and self._is_fault(nothing_left=nothing_left):
            raise fault_behind(self._kept_back[0].error)
        if self._control is not None or nothing_left:
            kept_back, self._kept_back = self._kept_back, []
            for failed in kept_back:
                yield from self._settle(failed)

    def _is_fault(self, *, nothing_left: bool) -> bool:
        """Whether no chunk can be to blame, where none was ever computed."""
        first, count = self._kept_back[0], len(self._kept_back)
        if count >= ALIKE:
            return True
        if first.cause is Cause.FILE or first.task.rescore:
            return False
        if first.cause is Cause.DEATH and first.task.chunks > 1:
            return True
        return nothing_left and (count > 1 or first.task.chunks > 1)

    def _settle(self, failed: _Failed) -> Iterator[Receipt]:
        """Try a partition with a control, or give it up."""
        task = failed.task
        can_search = failed.cause is not Cause.FILE and not task.rescore
        if can_search and task.control is None and self._control is not None:
            queue = self._deadly if task.alone else self._waiting
            queue.appendleft(replace(task, control=self._control))
        else:
            yield Receipt.of_failed(task, reason_of(failed.error))
