"""What becomes of partitions that a task cannot settle by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from virnuc_dask.cluster.retries import Retries
from virnuc_dask.errors import LostRowsError, NoClusterError
from virnuc_dask.stages.bad_chunks import ControlFailedError
from virnuc_dask.stages.crash_marks import WorkerDiedError
from virnuc_dask.stages.receipt import Failure, Receipt
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import PartitionTask

CHUNKS = 13


def tasks_of(count: int, chunks: int = CHUNKS, *, rescore: bool = False) -> list[PartitionTask]:
    return [
        PartitionTask(RunFolder(Path("out")), i, chunks, f"c{i}", f"f{i}", f"p{i}", True, rescore)
        for i in range(count)
    ]


def computed(task: PartitionTask, *failed: int) -> Receipt:
    failures = tuple(Failure(task.index, "poison", (row, row + 1)) for row in failed)
    done = task.chunks - len(failed)
    return Receipt(task.index, done, done, 0, 0, {"work": 1.0}, failures=failures)


def work(
    retries: Retries,
    bad: set[int],
    on_task: Callable[[PartitionTask], None] = lambda _: None,
    error: Exception | None = None,
) -> list[Receipt]:
    """Compute everything that is given out; ``bad`` partitions fail, unless they have a control."""
    receipts: list[Receipt] = []
    while (task := retries.take()) is not None:
        on_task(task)
        if task.index not in bad:
            receipts += retries.done(task, computed(task))
        elif task.control is None:
            receipts += retries.failed(task, error or RuntimeError("poison"))
        else:
            receipts += retries.done(task, computed(task, *range(task.chunks)))
    return receipts


def test_a_partition_that_fails_is_tried_again_at_once_with_one_that_was_computed():
    tried: list[PartitionTask] = []
    receipts = work(Retries(tasks_of(4)), {1}, tried.append)
    assert [task.index for task in tried] == [0, 1, 1, 2, 3]
    assert tried[2].control == tried[0]
    assert {r.partition: len(r.failures) for r in receipts} == {0: 0, 1: CHUNKS, 2: 0, 3: 0}


def test_one_that_fails_before_anything_was_computed_waits_for_that():
    tried: list[PartitionTask] = []
    work(Retries(tasks_of(3)), {0}, tried.append)
    assert [(task.index, task.control is not None) for task in tried] == [
        *((0, False), (1, False), (0, True), (2, False)),
    ]


def give(count: int) -> tuple[Retries, list[PartitionTask]]:
    """Retries that have given out all but the last of so many partitions."""
    tasks = tasks_of(count)
    retries = Retries(tasks)
    assert [retries.take() for _ in tasks[1:]] == tasks[:-1]
    return retries, tasks


def test_a_control_that_lacks_chunks_is_known_by_what_was_written():
    retries, (first, second) = give(2)
    assert list(retries.done(first, computed(first, 2))) == [computed(first, 2)]
    assert retries.take() == second
    assert list(retries.failed(second, RuntimeError("poison"))) == []
    assert retries.take().control == first.lacking([(2, 3)])


@pytest.mark.parametrize(("frames", "elapsed_s"), [(0, {"work": 1.0}), (5, {})])
def test_nothing_was_computed_where_no_frame_was_or_all_was_there(frames, elapsed_s):
    receipt = Receipt(0, CHUNKS, frames, 0, 0, elapsed_s)
    retries, (first, second) = give(2)
    assert list(retries.done(first, receipt)) == [receipt]
    assert retries.take() == second
    with pytest.raises(RuntimeError, match="poison"):
        list(retries.failed(second, RuntimeError("poison")))


@pytest.mark.parametrize("partitions", [1, 2, 3, 50])
def test_where_nothing_can_be_computed_the_error_itself_ends_the_run(partitions):
    tried: list[PartitionTask] = []
    with pytest.raises(RuntimeError, match="poison") as raised:
        work(Retries(tasks_of(partitions)), set(range(partitions)), tried.append)
    assert "No chunk was marked as failed" in raised.value.__notes__[0]
    assert len(tried) <= 3


def test_a_machine_that_breaks_on_the_way_ends_the_run():
    """What was computed before cannot be computed any longer: no chunk changes so."""
    (task,) = tasks_of(1)
    retries = Retries([task])
    assert retries.take() == task
    with pytest.raises(NoClusterError, match="memory does not hold"):
        list(retries.failed(task, ControlFailedError(MemoryError())))


def test_what_lies_with_a_disk_is_tried_once_more():
    (task,) = tasks_of(1)
    retries = Retries([task])
    for _ in range(2):
        assert retries.take() == task
        receipts = list(retries.failed(task, OSError("I/O error")))
    assert receipts == [Receipt.of_failed(task, "OSError: I/O error")]
    assert retries.take() is None


def test_a_receipt_for_fewer_chunks_is_an_error():
    (task,) = tasks_of(1)
    with pytest.raises(LostRowsError, match="13 chunks went in, 12 came out"):
        list(Retries([task]).done(task, Receipt(0, CHUNKS - 1, 0, 0, 0)))


def test_what_killed_workers_is_computed_alone_and_last():
    told: list[tuple[int, int, str]] = []
    sound, deadly, other = tasks_of(3)
    retries = Retries([sound, deadly, other], lambda *what: told.append(what))
    assert retries.take() == sound
    assert list(retries.done(sound, computed(sound))) != []
    assert retries.take() == deadly
    assert list(retries.failed(deadly, WorkerDiedError("died"))) == []
    assert told == [(1, CHUNKS, "died")]
    assert not retries.must_be_alone
    assert retries.take() == other
    assert retries.take(busy=True) is None, "the other one still runs"
    assert list(retries.done(other, computed(other))) != []
    alone = retries.take()
    assert (alone.index, alone.alone, alone.control) == (1, True, sound)
    assert retries.take(busy=True) is None
    retries.again(alone)
    assert retries.take() == alone, "nothing is known of it yet"
    assert list(retries.done(alone, computed(alone, 3))) == [computed(alone, 3)]
    assert retries.take() is None


def test_where_nothing_was_computed_yet_what_killed_workers_comes_first():
    first, second = tasks_of(2)
    retries = Retries([first, second])
    assert (retries.take(), retries.take(busy=True)) == (first, second)
    assert list(retries.failed(first, WorkerDiedError("died"))) == []
    assert retries.must_be_alone
    retries.again(second)
    assert retries.take().alone
    assert not retries.must_be_alone
    assert retries.take(busy=True) is None
