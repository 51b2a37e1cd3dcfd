"""What is to be computed, what was, and what could not be: no chunk is ever out of the books.

A partition that fails is halved, and its halves again, until the chunks that cannot be computed
stand alone and all others are done. If in the end there are none, it is computed as a whole once
more: matrices of another size can differ in the last bit, and a finished run does not depend on
what happened on the way. Where nothing at all can be computed, no chunk is to blame: see `doubt`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from traceback import clear_frames

from virnuc_dask.cluster.machine_faults import Cause, Doubt, Strike, fault_behind
from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.stages.crash_marks import WorkerLostError, forget_attempts
from virnuc_dask.stages.pieces import assemble, failed_before, forget_pieces, pieces_to_do
from virnuc_dask.stages.receipt import Failure, Outcome, Receipt
from virnuc_dask.tables.plan import PartitionTask, Rows

# Halvings with nothing computed in between: some hundred bad chunks beside each other. Where there
# are more, the chunks are not what is wrong.
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

    Parameters
    ----------
    on_halved
        Told of each task that is halved, with the reason.
    sound
        A partition that an earlier run computed.
    """

    def __init__(
        self,
        tasks: Iterable[PartitionTask],
        on_halved: Callable[[PartitionTask, str], None] = lambda *_: None,
        sound: PartitionTask | None = None,
        halvings: int = HALVINGS,
    ) -> None:
        self._new = iter(tasks)
        self._doubt = Doubt(sound)
        self._out: set[PartitionTask] = set()  # given out, not back yet
        self._on_halved = on_halved
        self._peeked: deque[PartitionTask] = deque()
        self._later: deque[PartitionTask] = deque()
        self._deadly: deque[PartitionTask] = deque()
        self._alone: PartitionTask | None = None
        self._cases: dict[int, _Case] = {}
        self._tried_twice: set[PartitionTask] = set()
        self._most_halvings = self._halvings = halvings

    @property
    def is_probing(self) -> bool:
        """Whether single chunks are tried, and everything else waits for what comes of it."""
        return self._doubt.probing

    @property
    def anything_computed(self) -> bool:
        """Whether anything was, in this run."""
        return self._doubt.anything_computed

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
        if self._doubt.probing:
            return self._doubt.take()
        task = self._next(busy=busy)
        if task is not None:
            self._out.add(task)
        return task

    def again(self, task: PartitionTask) -> None:
        """Put back a task that nothing can be said about yet."""
        self._out.discard(task)
        alone = self._was_alone(task)
        if task.is_trial:
            self._doubt.again(task)
        else:
            (self._deadly if alone else self._later).append(task)

    def done(self, task: PartitionTask, receipt: Receipt) -> Iterator[Outcome]:
        """Take in a task's receipt; yields what is settled by it.

        Raises
        ------
        LostRowsError
            If it is for another number of chunks than the task has.
        BaseException
            As `failed` does.
        """
        self._was_alone(task)
        self._out.discard(task)
        if receipt.chunks != task.chunks:
            raise LostRowsError(
                f"{task.name}: {task.chunks} chunks went in, {receipt.chunks} came out."
            )
        yield from self._book_all(self._doubt.computed(task, receipt))
        if not task.is_trial:
            yield from self._book_done(task, receipt)
        yield from self._weigh()

    def _book_done(self, task: PartitionTask, receipt: Receipt) -> Iterator[Outcome]:
        if receipt.frames:
            self._halvings = self._most_halvings
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

    def failed(self, task: PartitionTask, error: BaseException) -> Iterator[Outcome]:
        """Take in that a task failed; yields what is settled by it.

        Its chunks are searched if they may be to blame; for what lies with files it is tried
        once more as it is.

        Raises
        ------
        BaseException
            What is to blame, if everything fails alike; nothing is settled by it then.
        """
        # The traceback would keep the memory of what failed.
        clear_frames(error.__traceback__)
        if not isinstance(error, WorkerLostError):
            forget_attempts(task)
        self._out.discard(task)
        yield from self._book_all(self._weighed(Strike(task, error, self._was_alone(task))))
        yield from self._weigh()

    def _weighed(self, strike: Strike) -> list[Strike]:
        """The failures that can be booked once ``strike`` is known."""
        task, case = strike.task, self._cases.get(strike.task.index)
        if task.is_trial:
            return self._doubt.failed(strike)
        if strike.cause is Cause.FILE and task not in self._tried_twice:
            self._tried_twice.add(task)
            self._later.append(task)
            return []
        if (case is not None and case.as_a_whole) or not self._doubt.keeps_back(task):
            return [strike]
        return self._doubt.note(strike)

    def _weigh(self) -> Iterator[Outcome]:
        """Find out about failures that are kept back, as soon as nothing else is to be done."""
        last = not (self._out or self._later or self._deadly or self._any_new())
        yield from self._book_all(self._doubt.weigh(last=last, fresh=self._fresh))

    def _fresh(self) -> PartitionTask | None:
        return self._peeked[0] if self._any_new() else None

    def _book_all(self, strikes: Iterable[Strike]) -> Iterator[Outcome]:
        for strike in strikes:
            yield from self._book(strike)

    def _book(self, strike: Strike) -> Iterator[Outcome]:
        task, case = strike.task, self._cases.get(strike.task.index)
        if isinstance(strike.error, WorkerLostError):
            self._later.append(task)
        elif case is not None and case.as_a_whole:
            yield from self._close(case)
        elif strike.cause is not Cause.FILE and self._can_halve(task):
            self._halve(strike, case)
            self._on_halved(task, strike.reason)
        elif strike.cause is Cause.DEATH and not strike.alone:
            self._deadly.append(task)
        elif case is None:
            yield Failure(task.index, strike.reason, task.rows)
        else:
            case.failed.append((task.rows, strike.reason))
            yield from self._settle(case)

    def _next(self, *, busy: bool) -> PartitionTask | None:
        if self._any_new():
            return self._peeked.popleft()
        if self._later:
            return self._later.popleft()
        if self._deadly and not busy:
            self._alone = self._deadly.popleft()
        return self._alone

    def _any_new(self) -> bool:
        """Whether a partition is left that was not begun; those begun earlier become pieces."""
        while not self._peeked and (task := next(self._new, None)) is not None:
            pieces = [] if task.rescore else pieces_to_do(task)
            if pieces:
                self._open(task, pieces)
            else:
                self._peeked.append(task)
        return bool(self._peeked)

    def _was_alone(self, task: PartitionTask) -> bool:
        """Whether a task that ended ran alone; from now on nothing does."""
        alone = self._alone == task
        if alone:
            self._alone = None
        return alone

    def _can_halve(self, task: PartitionTask) -> bool:
        return task.chunks > 1 and not task.rescore

    def _open(
        self,
        whole: PartitionTask,
        pieces: list[PartitionTask],
        queue: deque[PartitionTask] | None = None,
    ) -> None:
        whole.folder.unfinished.mkdir(exist_ok=True)
        if failed_before(whole) is not None:
            self._doubt.trust(whole)
        self._cases[whole.index] = _Case(whole, len(pieces))
        (self._later if queue is None else queue).extend(pieces)

    def _halve(self, strike: Strike, case: _Case | None) -> None:
        if not self._halvings:
            raise fault_behind(strike)
        self._halvings -= 1
        task = strike.task
        whole = task if case is None else case.whole
        first, end = task.rows
        middle = (first + end) // 2
        halves = [whole.piece((first, middle)), whole.piece((middle, end))]
        queue = self._deadly if strike.cause is Cause.DEATH else self._later
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
