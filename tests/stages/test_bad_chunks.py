"""A partition in which something fails: all but the chunks to blame is computed, in one task."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_dask.stages.bad_chunks import ControlFailedError, compute_chunks
from virnuc_dask.stages.crash_marks import CrashMarks, WorkerDiedError, rows_name
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask, Rows

CHUNKS = 13


@pytest.fixture
def task(tmp_path: Path) -> PartitionTask:
    return PartitionTask(RunFolder(tmp_path), 0, CHUNKS, "c", "f", "p", True)


def leave_mark(task: PartitionTask, what: str = "whole", number: int = 0) -> None:
    """As a process that was killed leaves it."""
    task.folder.unfinished.mkdir(exist_ok=True)
    (task.folder.unfinished / f"{task.name}.{what}.{number:012x}.attempt").touch()


class KilledError(BaseException):
    """The end of the process, as a test can survive it."""


class Machine:
    """Computes rows: a table of their numbers; what holds ``bad`` rows raises, or dies."""

    def __init__(self, bad: set[int], error: BaseException | None = None) -> None:
        self.bad, self.error = bad, error or RuntimeError("poison")
        self.tried: list[Rows] = []

    def compute(self, rows: Rows) -> pa.Table:
        self.tried.append(rows)
        if self.bad & set(range(*rows)):
            raise self.error
        return pa.table({"row": list(range(*rows))})

    def candidates(self) -> list[int]:
        return list(range(CHUNKS))

    def search(self, task: PartitionTask, control: Callable[[], object] | None = None):
        return compute_chunks(task, self.compute, control, self.candidates)


@pytest.fixture
def mark_of_the_dead(monkeypatch) -> None:
    """A process that is killed removes no mark."""
    unlink = Path.unlink

    def keep(path: Path, missing_ok: bool = False) -> None:
        if not dying:
            unlink(path, missing_ok=missing_ok)

    dying: list[bool] = []
    monkeypatch.setattr(Path, "unlink", keep)
    monkeypatch.setattr(KilledError, "__init__", lambda *_: dying.append(True))
    monkeypatch.setattr("virnuc_dask.stages.bad_chunks.refuse_deadly", lambda _: dying.clear())


def rows_of(table: pa.Table | None) -> list[int]:
    return [] if table is None else table["row"].to_pylist()


@settings(max_examples=60, deadline=None)
@given(bad=st.sets(st.integers(0, CHUNKS - 1)), chunks=st.integers(1, CHUNKS))
def test_all_but_the_bad_chunks_are_computed(tmp_path_factory, bad, chunks):
    bad = {row for row in bad if row < chunks}
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    task = PartitionTask(folder, 0, chunks, "c", "f", "p", True)
    table, failures = Machine(bad).search(task, control=lambda: None)
    assert rows_of(table) == [row for row in range(chunks) if row not in bad]
    assert [failure.rows for failure in failures] == [(row, row + 1) for row in sorted(bad)]
    assert {failure.reason for failure in failures} <= {"RuntimeError: poison"}
    assert not list(folder.unfinished.iterdir())


def test_a_sound_partition_is_computed_once(task):
    machine = Machine(set())
    machine.search(task)
    assert machine.tried == [(0, CHUNKS)]


def test_what_failed_for_once_is_computed_as_a_whole_again(task):
    machine = Machine({5})
    compute = machine.compute

    def mended(rows: Rows) -> pa.Table:
        try:
            return compute(rows)
        finally:
            machine.bad = set()

    machine.compute = mended
    table, failures = machine.search(task)
    assert (rows_of(table), failures) == (list(range(CHUNKS)), ())
    assert machine.tried == [(0, 13), (0, 1), (0, 6), (6, 13), (0, 13)]


def test_a_partition_that_fails_only_as_a_whole_is_put_together(task):
    machine = Machine(set())
    compute = machine.compute

    def only_small(rows: Rows) -> pa.Table:
        if rows == (0, CHUNKS):
            raise MemoryError
        return compute(rows)

    machine.compute = only_small
    table, failures = machine.search(task)
    assert (rows_of(table), failures) == (list(range(CHUNKS)), ())


def test_where_nothing_can_be_computed_the_error_itself_is_raised_soon(task):
    machine = Machine(set(range(CHUNKS)))
    with pytest.raises(RuntimeError, match="poison"):
        machine.search(task)
    assert machine.tried == [(0, 13), (0, 1), (4, 5), (8, 9), (12, 13)]


@pytest.mark.parametrize("tries", [1, 6])
def test_where_the_control_fails_then_or_later_no_chunk_is_to_blame(task, tries):
    machine = Machine({3})

    def control() -> None:
        if len(machine.tried) >= tries:
            raise MemoryError("12 bytes")

    with pytest.raises(ControlFailedError) as raised:
        machine.search(task, control)
    assert isinstance(raised.value.error, MemoryError)
    assert (len(machine.tried) == 1) == (tries == 1)


@pytest.mark.parametrize("error", [NotImplementedError(), KeyError(), RecursionError()])
def test_a_bug_is_no_fault_of_a_chunk(task, error):
    machine = Machine({3}, error)
    with pytest.raises(type(error)):
        machine.search(task)
    assert machine.tried == [(0, CHUNKS)]


def lives(task: PartitionTask, machine: Machine, **control: object) -> Iterator[object]:
    """What comes of each process that takes the task up, one after the other."""
    while True:
        try:
            yield machine.search(task, **control)
            return
        except KilledError:
            yield None


def dying(bad: set[int]) -> Machine:
    machine = Machine(bad)

    def compute(rows: Rows) -> pa.Table:
        machine.tried.append(rows)
        if machine.bad & set(range(*rows)):
            raise KilledError
        return pa.table({"row": list(range(*rows))})

    machine.compute = compute
    return machine


@pytest.mark.usefixtures("mark_of_the_dead")
@pytest.mark.parametrize("bad", [{0}, {12}, {3, 4}])
def test_chunks_that_kill_their_process_are_found_by_what_it_left(task, bad):
    alone = replace(task, alone=True)
    leave_mark(task)
    *deaths, (table, failures) = lives(alone, dying(bad), control=lambda: None)
    assert rows_of(table) == [row for row in range(CHUNKS) if row not in bad]
    assert [failure.rows[0] for failure in failures] == sorted(bad)
    assert {failure.reason for failure in failures} == {
        "its worker died 2 time(s) while computing it (out of memory?)"
    }
    assert len(deaths) <= 6 * len(bad)


@pytest.mark.usefixtures("mark_of_the_dead")
def test_processes_that_die_of_everything_are_two_more(task):
    leave_mark(task)
    machine = dying(set(range(CHUNKS)))
    outcomes = lives(replace(task, alone=True), machine)
    assert [next(outcomes), next(outcomes)] == [None, None]
    with pytest.raises(WorkerDiedError):
        next(outcomes)
    assert machine.tried == [(0, 1), (12, 13)]


def test_a_partition_whose_deaths_are_over_gives_what_it_always_gives(task):
    leave_mark(task, rows_name((7, 8)))
    with pytest.raises(WorkerDiedError):
        Machine(set()).search(task)
    machine = Machine(set())
    table, failures = machine.search(replace(task, alone=True))
    assert (rows_of(table), failures) == (list(range(CHUNKS)), ())
    assert machine.tried[-1] == (0, CHUNKS), "as a whole"
    assert CrashMarks.of(task).deaths_within((0, CHUNKS)) == 0


@pytest.mark.parametrize("with_control", [True, False])
def test_a_single_chunk_that_killed_workers_beside_others_is_tried_alone(task, with_control):
    single = replace(task, chunks=1, alone=True)
    for number in range(3):
        leave_mark(single, number=number)
    machine = Machine(set())
    table, failures = machine.search(single, (lambda: None) if with_control else None)
    assert (rows_of(table), failures, machine.tried) == ([0], (), [(0, 1)])
