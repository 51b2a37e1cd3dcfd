from pathlib import Path

import pytest

from virnuc_dask.stages.crash_marks import (
    CONTROL,
    CrashMarks,
    WorkerDiedError,
    refuse_deadly,
    rows_name,
    tidy_marks,
)
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask


@pytest.fixture
def task(tmp_path: Path) -> PartitionTask:
    return PartitionTask(RunFolder(tmp_path), 3, 100, "c", "f", "p", True)


@pytest.fixture
def marks(task) -> CrashMarks:
    return CrashMarks.of(task)


@pytest.fixture
def die(marks):
    """Begins, and never ends: what a killed worker leaves."""
    begun = []

    def begin(*what: str) -> None:
        begun.append(marks.attempt(*what))
        begun[-1].__enter__()

    return begin


@pytest.mark.parametrize(("what", "deaths"), [("whole", 3), (rows_name((7, 8)), 1)])
def test_a_partition_that_kills_workers_is_refused_beside_others(task, die, what, deaths):
    for _ in range(deaths):
        refuse_deadly(task)
        die(what)
    with pytest.raises(WorkerDiedError, match=f"died {deaths} time"):
        refuse_deadly(task)


def test_deaths_of_rows_are_those_of_the_rows_around_them_too(marks, die):
    for rows in ((7, 8), (7, 8), (10, 20)):
        die(rows_name(rows))
    die(CONTROL)
    die()
    spans = [(7, 8), (0, 10), (0, 100), (8, 10), (10, 15), (10, 20)]
    assert [marks.deaths_within(rows) for rows in spans] == [2, 2, 3, 0, 0, 1]
    assert (marks.deaths(), marks.deaths(CONTROL)) == (1, 1)


def test_marks_of_one_partition_are_not_those_of_another(task, die):
    die(rows_name((0, 1)))
    other = CrashMarks(task.folder.unfinished, "part-00030")
    assert other.deaths_within((0, 100)) == 0
    other.forget()
    assert CrashMarks.of(task).deaths_within((0, 100)) == 1
    CrashMarks.of(task).forget()
    assert not list(task.folder.unfinished.iterdir())


def test_the_next_run_knows_which_rows_killed_workers_and_nothing_else(task, marks, die):
    for what in (rows_name((7, 8)), rows_name((7, 8)), rows_name((0, 50)), CONTROL, "whole"):
        die(what)
    tidy_marks(task.folder, {task.name})
    assert marks.deaths_within((7, 8)) == 1, "it is tried once more"
    assert marks.deaths_within((0, 50)) == 2
    assert marks.deaths() == marks.deaths(CONTROL) == 0
    tidy_marks(task.folder, set())
    assert not task.folder.unfinished.exists(), "the partition was computed"


def test_what_is_no_mark_stays(task, die):
    die()
    (task.folder.unfinished / "part-9.attempt").touch()
    tidy_marks(task.folder, set())
    assert [path.name for path in task.folder.unfinished.iterdir()] == ["part-9.attempt"]
