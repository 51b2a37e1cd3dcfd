"""Whether chunks are to blame for what fails, or the machine, or the program.

A failure is kept back until something else was computed: then it lies with its own chunks. Where
partitions fail alike one after the other, a few single chunks are tried, first of all one that was
computed before. If these fail alike too, no chunk is to blame.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from virnuc_dask.errors import BadTableError, LostRowsError, ModelSetError, NoClusterError
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.stages.crash_marks import WorkerDiedError
from virnuc_dask.stages.pieces import failed_before
from virnuc_dask.stages.receipt import CHUNK_FAILURES, Receipt
from virnuc_dask.tables.parquet import read_table
from virnuc_dask.tables.plan import PartitionTask

ALIKE = 3  # failures of one kind in a row that cast doubt on everything
_PROBES = 4  # single chunks that are tried then
_DEADLY_PROBES = 2  # where each costs a worker
_SINGLES = 2  # that must fail where nothing was ever computed
_KEPT = "What is done is kept: continue with --resume."


class Cause(Enum):
    """What may be to blame for a failure."""

    CHUNK = "a chunk"
    DEATH = "a chunk that kills the process that computes it, or another one beside it"
    FILE = "a disk, a network, a damaged file"


@dataclass(frozen=True, slots=True)
class Strike:
    """A task that failed."""

    task: PartitionTask
    error: BaseException
    alone: bool = False  # nothing else ran beside it

    @property
    def cause(self) -> Cause:
        """What may be to blame."""
        if isinstance(self.error, WorkerDiedError):
            return Cause.DEATH
        return Cause.CHUNK if isinstance(self.error, CHUNK_FAILURES) else Cause.FILE

    @property
    def reason(self) -> str:
        """The error as people are told of it."""
        if self.cause is Cause.DEATH:
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error}"

    @property
    def kind(self) -> str:
        """The same for errors that are alike: places, sizes and names of chunks apart."""
        if self.cause is Cause.DEATH:
            return self.cause.name
        if isinstance(self.error, LostRowsError) or _is_memory(self.error):
            return type(self.error).__name__
        return re.sub("[0-9]+", "#", self.reason)


def fault_behind(strike: Strike) -> BaseException:
    """What to raise where everything fails as ``strike`` did: what helps, or the bug that it is."""
    error = strike.error
    if strike.cause is Cause.DEATH:
        return NoClusterError(
            "workers die whatever they compute, and their own logs say why: out of memory, or "
            f"instructions that their processor has not? No chunk is to blame. {_KEPT}"
        )
    if _is_memory(error):
        return NoClusterError(
            f"memory does not hold a single chunk beside the model set ({strike.reason}). Use "
            f"fewer workers, a lower precision, or a machine with more memory. {_KEPT}"
        )
    if isinstance(error, LostRowsError):
        return ModelSetError(
            f"every chunk fails alike: {error} The model set is damaged, or does not compute in "
            f"this precision; try --precision fp32. {_KEPT}"
        )
    if strike.cause is Cause.FILE:
        return BadTableError(
            f"every partition fails alike: {strike.reason} Is its disk there? {_KEPT}"
        )
    error.add_note(
        "Single chunks and whole partitions fail alike: this is a bug, or a machine that cannot "
        f"compute this. No chunk was marked as failed. {_KEPT}"
    )
    return error


def _is_memory(error: BaseException) -> bool:
    # torch's by its name: the client does not import torch.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


class Doubt:
    """Failures that are kept back, and the chunks that are tried to find out about them.

    Parameters
    ----------
    sound
        A partition that an earlier run computed, all or some of it; None if there is none.
    """

    def __init__(self, sound: PartitionTask | None = None) -> None:
        self._sound = sound
        self.anything_computed = False  # in this run
        self._strikes: list[Strike] = []
        self._probes: deque[PartitionTask] = deque()
        self._tried: set[PartitionTask] = set()
        self._failed = 0  # of the probes
        self.probing = False

    def trust(self, sound: PartitionTask) -> None:
        """Take a partition for computed, all or some of it, by an earlier run."""
        self._sound = self._sound or sound

    def keeps_back(self, task: PartitionTask) -> bool:
        """Whether it must be known more before a failure of ``task`` is its own."""
        return not (task.is_piece and self.anything_computed)

    def take(self) -> PartitionTask | None:
        """The next chunk to try; None if all are on their way."""
        if not self._probes:
            return None
        task = self._probes.popleft()
        self._tried.add(task)
        return task

    def again(self, task: PartitionTask) -> None:
        """Put back a chunk of which nothing is known yet."""
        self._tried.discard(task)
        if self.probing:
            self._probes.appendleft(task)

    def note(self, strike: Strike) -> list[Strike]:
        """Keep a failure back; returns those that need not be kept back any longer."""
        if self._strikes and strike.kind != self._strikes[0].kind:
            return [*self._clear(), strike]
        self._strikes.append(strike)
        return []

    def computed(self, task: PartitionTask, receipt: Receipt) -> list[Strike]:
        """Something came out; returns the failures that lie with their own chunks then."""
        self._take_back(task)
        # Tables that were there already, and chunks without a frame, tell nothing.
        if receipt.frames and receipt.elapsed_s:
            self.anything_computed = True
            if not task.is_piece:
                self._sound = task
            return self._clear()
        return self._concluded() if task.is_trial else []

    def failed(self, strike: Strike) -> list[Strike]:
        """A chunk that was tried failed; returns as `computed` does.

        Raises
        ------
        BaseException
            What is to blame, if this was the last one and all failed alike: see `fault_behind`.
        """
        self._take_back(strike.task)
        if not self.probing:
            return []
        if strike.kind != self._strikes[0].kind:
            return self._clear()
        self._failed += 1
        return self._concluded()

    def weigh(self, *, last: bool, fresh: Callable[[], PartitionTask | None]) -> list[Strike]:
        """Find out about what is kept back, if it is time; returns as `computed` does.

        Parameters
        ----------
        last
            Whether nothing else is on its way that could tell more.
        fresh
            Gives a partition that was not begun, if there is one.

        Raises
        ------
        BaseException
            What is to blame, if there is nothing to try and everything failed alike.
        """
        if not self._strikes or self.probing:
            return []
        if len(self._strikes) < ALIKE and not self._is_deadly:
            if not last:
                return []
            if self.anything_computed:
                return self._clear()
        self._strikes[0].task.folder.unfinished.mkdir(exist_ok=True)
        self._probes.extend(self._chosen(fresh))
        self.probing = True
        return self._concluded()

    @property
    def _is_deadly(self) -> bool:
        """Whether workers died, and did nothing else so far."""
        return self._strikes[0].cause is Cause.DEATH and not self.anything_computed

    def _chosen(self, fresh: Callable[[], PartitionTask | None]) -> Iterator[PartitionTask]:
        """The chunks to try: one that was computed before; or some that failed, and a fresh one."""
        if self._strikes[0].cause is Cause.FILE or self._strikes[0].task.rescore:
            return
        if self._sound is not None:
            yield self._sound.trial(_rows_to_try(self._sound)[0])
            return
        several = [strike.task for strike in self._strikes[:ALIKE] if strike.task.chunks > 1]
        rows = [(task, row) for task in several for row in _rows_to_try(task)]
        most = _DEADLY_PROBES if self._is_deadly else _PROBES
        places = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
        yield from (rows[place][0].trial(rows[place][1]) for place in places)
        if (task := fresh()) is not None:
            yield task.trial(_rows_to_try(task)[0])

    def _take_back(self, task: PartitionTask) -> None:
        self._tried.discard(task)
        if task.is_trial:
            # The next time they would be there already, and nothing would be computed.
            task.features_path.unlink(missing_ok=True)
            task.predictions_path.unlink(missing_ok=True)

    def _concluded(self) -> list[Strike]:
        """Once all probes are back: the failures to be booked."""
        if not self.probing or self._probes or self._tried:
            return []
        if self._nothing_computes():
            raise fault_behind(self._strikes[0])
        return self._clear()

    def _nothing_computes(self) -> bool:
        first = self._strikes[0]
        if first.cause is Cause.FILE or first.task.rescore:
            return (
                len(self._strikes) >= ALIKE and not self.anything_computed and self._sound is None
            )
        if self._sound is not None:
            return self._failed > 0
        singles = sum(
            strike.task.chunks == 1 and (strike.alone or strike.cause is not Cause.DEATH)
            for strike in self._strikes
        )
        return singles + self._failed >= _SINGLES

    def _clear(self) -> list[Strike]:
        strikes, self._strikes = self._strikes, []
        self._probes.clear()
        self._failed = 0
        self.probing = False
        return strikes


def _rows_to_try(task: PartitionTask) -> Sequence[int]:
    """Rows of a task's partition that were not left out before, those with frames if there are."""
    left_out = {row for rows in failed_before(task) or () for row in range(*rows)}
    rows = [row for row in range(*task.rows) if task.is_piece or row not in left_out]
    try:
        texts = read_table(task.folder.partition(task.index), task.content)["sequence"].to_pylist()
    except (OSError, BadTableError):
        return rows
    found = find_frames([texts[row] for row in rows])
    return [row for row, frames in zip(rows, found, strict=True) if frames] or rows
