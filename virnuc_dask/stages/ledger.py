"""What is to be computed, what was, and what could not be: no chunk is ever out of the books.

A partition that fails is halved, and its halves again, until the chunks that cannot be computed
stand alone and all others are done. If in the end there are none, it is computed as a whole once
more: matrices of another size can differ in the last bit, and a finished run does not depend on
what happened on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.stages.attempt import forget_attempts
from virnuc_dask.stages.pieces import assemble, failed_before, forget_pieces, pieces_to_do
from virnuc_dask.stages.receipt import Failure, Outcome, Receipt
from virnuc_dask.tables.plan import PartitionTask, Rows


class Cause(Enum):
    """What may be to blame for a failure."""

    CHUNK = "a chunk"
    DEATH = "a chunk that kills the process that computes it, or another one beside it"
    FILE = "a disk, a network, a damaged file"


# Halvings in one run: some 25 bad chunks among partitions of 1,000. Where there are more, the
# chunks are not what is wrong; what is left of them fails, and --resume goes on from there.
HALVINGS = 256


@dataclass
class _Case:
    """A partition in pieces."""

    whole: PartitionTask
    waiting: int
    done: list[tuple[PartitionTask, Receipt]] = field(default_factory=list)
    failed: list[tuple[Rows, str]] = field(default_factory=list)
    as_a_whole: bool = False  # being computed as one again


class Ledger:
    """Gives out partitions, and pieces of those that failed, until everything is settled.

    Partitions come first: what kills workers or fills a device is tried again when nothing else
    is left that could suffer from it.
    """

    def __init__(
        self,
        tasks: Iterable[PartitionTask],
        on_halved: Callable[[PartitionTask, str], None] = lambda *_: None,
        halvings: int = HALVINGS,
    ) -> None:
        self._new = iter(tasks)
        self._on_halved = on_halved
        self._later: deque[PartitionTask] = deque()
        self._deadly: deque[PartitionTask] = deque()
        self._alone: PartitionTask | None = None
        self._cases: dict[int, _Case] = {}
        self._tried_twice: set[PartitionTask] = set()
        self._halvings = halvings

    def take(self, *, busy: bool = False) -> PartitionTask | None:
        """The next task; None if there is none now.

        Parameters
        ----------
        busy
            Whether others run already. What killed a worker runs alone: it kills nothing else
            then, and nothing else can be to blame.
        """
        if self._alone is not None:
            return None
        for task in self._new:
            pieces = [] if task.rescore else pieces_to_do(task)
            if not pieces:
                return task
            self._open(task, pieces)
        if self._later:
            return self._later.popleft()
        if self._deadly and not busy:
            self._alone = self._deadly.popleft()
        return self._alone

    def again(self, task: PartitionTask) -> None:
        """Put back a task that nothing can be said about yet."""
        (self._deadly if self._was_alone(task) else self._later).append(task)

    def done(self, task: PartitionTask, receipt: Receipt) -> Iterator[Outcome]:
        """Take in a task's receipt; yields what is settled by it.

        Raises
        ------
        LostRowsError
            If it is for another number of chunks than the task has.
        """
        self._was_alone(task)
        if receipt.chunks != task.chunks:
            raise LostRowsError(
                f"{task.name}: {task.chunks} chunks went in, {receipt.chunks} came out."
            )
        case = self._cases.get(task.index)
        if case is None:
            yield receipt
        elif case.as_a_whole:
            del self._cases[task.index]
            forget_pieces(task)
            yield receipt
        else:
            case.done.append((task, receipt))
            yield from self._settle(case)

    def failed(self, task: PartitionTask, reason: str, cause: Cause) -> Iterator[Outcome]:
        """Take in that a task failed; yields what is settled by it.

        Its chunks are searched if they may be to blame; for what lies with files it is tried
        once more as it is.
        """
        forget_attempts(task)
        alone = self._was_alone(task)
        case = self._cases.get(task.index)
        if case is not None and case.as_a_whole:
            yield from self._close(case)
        elif cause is Cause.FILE and task not in self._tried_twice:
            self._tried_twice.add(task)
            self._later.append(task)
        elif cause is not Cause.FILE and self._can_halve(task):
            self._halvings -= 1
            self._halve(task, case, cause)
            self._on_halved(task, reason)
        elif cause is Cause.DEATH and not alone:
            self._deadly.append(task)
        elif case is None:
            yield Failure(task.index, reason, task.rows)
        else:
            case.failed.append((task.rows, reason))
            yield from self._settle(case)

    def _was_alone(self, task: PartitionTask) -> bool:
        """Whether a task that ended ran alone; from now on nothing does."""
        alone = self._alone == task
        if alone:
            self._alone = None
        return alone

    def _can_halve(self, task: PartitionTask) -> bool:
        return task.chunks > 1 and not task.rescore and self._halvings > 0

    def _open(
        self,
        whole: PartitionTask,
        pieces: list[PartitionTask],
        queue: deque[PartitionTask] | None = None,
    ) -> None:
        whole.folder.unfinished.mkdir(exist_ok=True)
        self._cases[whole.index] = _Case(whole, len(pieces))
        (self._later if queue is None else queue).extend(pieces)

    def _halve(self, task: PartitionTask, case: _Case | None, cause: Cause) -> None:
        whole = task if case is None else case.whole
        first, end = task.rows
        middle = (first + end) // 2
        halves = [whole.piece((first, middle)), whole.piece((middle, end))]
        queue = self._deadly if cause is Cause.DEATH else self._later
        if case is None:
            self._open(whole, halves, queue)
        else:
            case.waiting += 1
            queue.extend(halves)

    def _settle(self, case: _Case) -> Iterator[Outcome]:
        """Count one piece as settled; with the last one, the partition is."""
        case.waiting -= 1
        if case.waiting:
            return
        if case.failed:
            yield from self._close(case)
        else:
            case.as_a_whole = True
            self._later.append(case.whole)

    def _close(self, case: _Case) -> Iterator[Outcome]:
        """Make a partition's tables from its pieces."""
        whole = case.whole
        del self._cases[whole.index]
        done = whole.chunks - sum(end - first for (first, end), _ in case.failed)
        outcomes: list[Outcome] = [Failure(whole.index, why, rows) for rows, why in case.failed]
        if done:
            try:
                outcomes.append(_receipt(case, done))
            except (OSError, BadTableError) as error:
                yield Failure(whole.index, f"{type(error).__name__}: {error}", whole.rows)
                return
        forget_pieces(whole)
        yield from outcomes


def _receipt(case: _Case, chunks: int) -> Receipt:
    """Put the pieces' tables together; one receipt for all."""
    before = failed_before(case.whole)
    known = case.whole.chunks - sum(
        end - first for first, end in before or [(0, case.whole.chunks)]
    )
    if known + sum(receipt.chunks for _, receipt in case.done) != chunks:
        raise LostRowsError(f"{case.whole.name}: the pieces do not add up to {chunks} chunks.")
    frames = assemble(
        case.whole, [task for task, _ in case.done], [rows for rows, _ in case.failed]
    )
    if not case.done:
        return Receipt(case.whole.index, chunks, frames, 0, 0)
    elapsed_s: dict[str, float] = {}
    for _, receipt in case.done:
        for stage, spent in receipt.elapsed_s.items():
            elapsed_s[stage] = elapsed_s.get(stage, 0.0) + spent
    return replace(case.done[-1][1], chunks=chunks, frames=frames, elapsed_s=elapsed_s)
