from pathlib import Path

import pytest

from virnuc_dask.stages.crash_marks import (
    WorkerDiedError,
    attempt,
    count_deaths,
    deaths_allowed,
    forget_attempts,
)
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask


@pytest.fixture
def task(tmp_path: Path) -> PartitionTask:
    return PartitionTask(RunFolder(tmp_path), 3, 100, "c", "f", "p", True)


@pytest.fixture
def die():
    """Begins, and never ends: what a killed worker leaves."""
    begun = []

    def begin(task: PartitionTask) -> None:
        begun.append(attempt(task))
        begun[-1].__enter__()

    return begin


def test_an_attempt_that_ends_leaves_no_mark(task):
    with attempt(task):
        assert count_deaths(task) == 1
    with pytest.raises(KeyError), attempt(task):
        raise KeyError
    assert count_deaths(task) == 0


def test_a_partition_is_given_up_after_three_deaths(task, die):
    for _ in range(3):
        die(task)
    with pytest.raises(WorkerDiedError, match="died 3 time"), attempt(task):
        pass


@pytest.mark.parametrize(("rows", "deaths"), [((0, 50), 1), ((7, 8), 2)])
def test_a_piece_is_divided_at_once_and_a_single_chunk_is_not_given_up_lightly(task, rows, deaths):
    assert deaths_allowed(task.piece(rows)) == deaths


def test_deaths_of_pieces_are_not_those_of_their_partition(task, die):
    die(task)
    for rows in ((0, 1), (0, 1), (10, 20)):
        die(task.piece(rows))
    assert [count_deaths(t) for t in (task, task.piece((0, 1)), task.piece((10, 20)))] == [1, 2, 1]
    forget_attempts(task)
    assert (count_deaths(task), count_deaths(task.piece((0, 1)))) == (0, 2)


def test_a_new_run_starts_without_marks(task, die):
    die(task)
    task.folder.sweep()
    assert count_deaths(task) == 0
