"""Partitions in which something fails: halved until what cannot be computed stands alone."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virnuc_dask.cluster import machine_faults
from virnuc_dask.cluster.retries import Ledger
from virnuc_dask.errors import BadTableError, LostRowsError, ModelSetError, NoClusterError
from virnuc_dask.stages.crash_marks import WorkerDiedError, WorkerLostError
from virnuc_dask.stages.pieces import without
from virnuc_dask.stages.receipt import Failure, Receipt
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import is_done, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask

CHUNKS, PARTITIONS = 13, 3
Poison = set[tuple[int, int]]
"""Chunks that cannot be computed, as (partition, row)."""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "out")
    folder.path.mkdir()
    folder.prepare(resume=False, force=False)
    return folder


def tasks_of(
    folder: RunFolder, count: int = PARTITIONS, *, keep_features: bool = True
) -> list[PartitionTask]:
    return [
        PartitionTask(folder, i, CHUNKS, f"c{i}", f"f{i}", f"p{i}", keep_features)
        for i in range(count)
    ]


def compute(task: PartitionTask) -> Receipt:
    """Write the tables of a task as the stages do: row r has r % 3 frames."""
    numbered = [(row, number) for row in range(*task.rows) for number in range(row % 3)]
    rows = [row for row, _ in numbered]
    frames = [f"{task.index}.{row}.{number}" for row, number in numbered]
    shared = [frames, ["c"] * len(rows), ["r"] * len(rows), rows]
    if task.keep_features:
        vectors = [[[float(row)] * 2 for row in rows]] * 2
        columns = [*shared, ["F"] * len(rows), [0] * len(rows), *vectors]
        write_table(
            task.features_path, pa.table(columns, schema=schemas.features(2, 2)), task.features
        )
    columns = [*shared, ["virus"] * len(rows), [0.25] * len(rows), [0.75] * len(rows)]
    write_table(
        task.predictions_path, pa.table(columns, schema=schemas.PREDICTIONS), task.predictions
    )
    return Receipt(task.index, task.chunks, len(rows), 0, 0, {"work": 1.0})


def work(
    ledger: Ledger,
    poison: Poison,
    on_task: Callable[[PartitionTask], None] = lambda _: None,
    error: Exception | None = None,
) -> list[Receipt | Failure]:
    """Compute everything that the ledger gives out; what holds poison fails."""
    outcomes: list[Receipt | Failure] = []
    while (task := ledger.take()) is not None:
        on_task(task)
        if any((task.index, row) in poison for row in range(*task.rows)):
            outcomes += ledger.failed(task, error or RuntimeError("poison"))
        else:
            outcomes += ledger.done(task, compute(task))
    return outcomes


def rows_done(task: PartitionTask, failed: list[tuple[int, int]]) -> list[int]:
    table = read_table(task.predictions_path, without(task.predictions, failed))
    return table["chunk_row"].to_pylist()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    poison=st.sets(
        st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, CHUNKS - 1)), max_size=8
    ),
    keep_features=st.booleans(),
)
def test_all_but_the_bad_chunks_are_done(tmp_path_factory, poison, keep_features):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.prepare(resume=False, force=False)
    # The last one is sound: where nothing at all can be computed, no chunk would be to blame.
    *_, sound = tasks = tasks_of(folder, PARTITIONS + 1, keep_features=keep_features)
    outcomes = work(Ledger([sound, *tasks[:-1]]), poison)
    failures = [o for o in outcomes if isinstance(o, Failure)]
    assert {(f.partition, f.rows[0]) for f in failures} == poison
    assert all(f.chunks == 1 and f.reason == "RuntimeError: poison" for f in failures)
    receipts = {o.partition: o for o in outcomes if isinstance(o, Receipt)}
    for task in tasks:
        failed = [f.rows for f in failures if f.partition == task.index]
        assert receipts[task.index].chunks == CHUNKS - len(failed)
        good = [row for row in range(CHUNKS) if (task.index, row) not in poison]
        assert rows_done(task, failed) == [row for row in good for _ in range(row % 3)]
        assert task.is_done == (not failed)
    assert not list(folder.unfinished.glob("*"))


def test_a_partition_in_pieces_gives_the_same_tables_as_a_whole_one(folder):
    (_, task, _) = tasks_of(folder)
    compute(task)
    expected = [read_table(task.features_path, "f1"), read_table(task.predictions_path, "p1")]
    for path in (task.features_path, task.predictions_path):
        path.unlink()
    ledger = Ledger([task])
    assert ledger.take() == task
    assert list(ledger.failed(task, RuntimeError("only as a whole"))) == []
    for piece in iter(ledger.take, task):
        assert list(ledger.done(piece, compute(piece))) == []
    (receipt,) = ledger.failed(task, RuntimeError("only as a whole"))
    assert receipt.elapsed_s == {"work": 2.0}
    assert receipt.frames == len(expected[1])
    assert read_table(task.features_path, "f1").equals(expected[0])
    assert read_table(task.predictions_path, "p1").equals(expected[1])


def test_resuming_tries_the_failed_chunks_only(folder):
    work(Ledger(tasks_of(folder)), {(1, 5), (1, 6), (2, 0)})
    tried: list[tuple[int, tuple[int, int]]] = []
    left = [task for task in tasks_of(folder) if not task.is_done]
    outcomes = work(Ledger(left), {(2, 0)}, lambda task: tried.append((task.index, task.rows)))
    assert tried == [(1, (5, 7)), (2, (0, 1)), (1, (0, CHUNKS))]
    assert {(o.partition, o.chunks) for o in outcomes} == {(1, CHUNKS), (2, CHUNKS - 1), (2, 1)}
    assert [task.is_done for task in tasks_of(folder)] == [True, True, False]
    assert rows_done(tasks_of(folder)[1], []) == [r for r in range(CHUNKS) for _ in range(r % 3)]


def test_a_run_killed_among_pieces_goes_on_with_those_that_are_missing(folder):
    class KilledError(Exception):
        pass

    computed: list[tuple[int, int]] = []

    def kill(task: PartitionTask) -> None:
        if task.rows == (3, 6):
            raise KilledError

    def note(task: PartitionTask) -> None:
        if not task.is_trial and not is_done(task.predictions_path, task.predictions):
            computed.append(task.rows)

    task = tasks_of(folder)[0]
    with pytest.raises(KilledError):
        work(Ledger([task]), {(0, 1)}, kill)
    outcomes = work(Ledger([task]), {(0, 1)}, note)
    # 6 to 13 was done before; the rest is tried together.
    assert computed == [(0, 6), (0, 3), (3, 6), (0, 1), (1, 3), (1, 2), (2, 3)]
    assert [o.rows for o in outcomes if isinstance(o, Failure)] == [(1, 2)]
    assert rows_done(task, [(1, 2)]) == [r for r in range(CHUNKS) if r != 1 for _ in range(r % 3)]


def test_what_failed_for_once_is_computed_as_a_whole_again(folder):
    task = tasks_of(folder)[0]
    ledger = Ledger([task])
    assert ledger.take() == task
    assert list(ledger.failed(task, RuntimeError("for once"))) == []
    tried: list[PartitionTask] = []
    (receipt,) = work(ledger, set(), tried.append)
    assert [t.rows for t in tried if not t.is_trial] == [(0, 6), (6, 13), (0, 13)]
    assert receipt == compute(task), "that of the whole, not of its pieces"
    assert not list(folder.unfinished.iterdir())


def test_stale_tables_of_pieces_are_not_taken_for_done(folder):
    task = tasks_of(folder)[0]
    stale = PartitionTask(folder, 0, CHUNKS, "c0", "old", "old", True).piece((0, 6))
    folder.unfinished.mkdir()
    compute(stale)
    (receipt,) = work(Ledger([task]), set())
    assert receipt.chunks == CHUNKS
    assert is_done(task.predictions_path, "p0")


def test_what_lies_with_a_disk_is_tried_once_more_and_never_halved(folder):
    task = tasks_of(folder)[0]
    ledger = Ledger([task])
    assert ledger.take() == task
    assert list(ledger.failed(task, OSError("I/O error"))) == []
    assert ledger.take() == task
    (failure,) = ledger.failed(task, OSError("I/O error"))
    assert failure == Failure(0, "OSError: I/O error", (0, CHUNKS))
    assert ledger.take() is None


def everything(partitions: int = PARTITIONS) -> Poison:
    return {(i, row) for i in range(partitions) for row in range(CHUNKS)}


@pytest.mark.parametrize("partitions", [1, 2, PARTITIONS, 50])
def test_where_nothing_can_be_computed_the_error_itself_ends_the_search(folder, partitions):
    tried: list[PartitionTask] = []
    with pytest.raises(RuntimeError, match="poison") as raised:
        work(Ledger(tasks_of(folder, partitions)), everything(partitions), tried.append)
    assert "No chunk was marked as failed" in raised.value.__notes__[0]
    assert len(tried) <= 3 + 5, "a handful"
    assert sum(task.is_trial for task in tried) == 4 + (partitions > 3)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (MemoryError("12 bytes"), NoClusterError, "memory does not hold a single chunk"),
        (WorkerDiedError("died"), NoClusterError, "workers die whatever they compute"),
        (LostRowsError("frame x has no score."), ModelSetError, "every chunk fails alike: frame x"),
        (OSError(5, "Input/output error"), BadTableError, "every partition fails alike: OSError"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_where_nothing_can_be_computed_and_the_cause_is_known_it_is_named(
    folder, error, kind, told
):
    with pytest.raises(kind, match=told):
        work(Ledger(tasks_of(folder)), everything(), error=error)


def test_partitions_of_bad_chunks_are_no_reason_to_end(folder, monkeypatch):
    with_frames = [row for row in range(CHUNKS) if row % 3]
    monkeypatch.setattr(machine_faults, "_rows_to_try", lambda _: with_frames)
    tasks = tasks_of(folder, 6)
    poison = everything(3)
    outcomes = work(Ledger(tasks), poison)
    failures = {(o.partition, o.rows[0]) for o in outcomes if isinstance(o, Failure)}
    assert failures == poison, "each was tried alone: those after them can be computed"


def test_a_machine_that_breaks_on_the_way_ends_the_run(folder):
    """What was computed before cannot be computed any longer: no chunk changes so."""
    tasks = tasks_of(folder, 20)
    tried: list[PartitionTask] = []
    poison: Poison = set()

    def break_after_five(task: PartitionTask) -> None:
        tried.append(task)
        poison.update(everything(20) if len(tried) > 5 else ())

    with pytest.raises(RuntimeError, match="poison"):
        work(Ledger(tasks), poison, break_after_five)
    assert [task.index for task in tried] == [0, 1, 2, 3, 4, 5, 6, 7, 4]


def test_resuming_with_nothing_but_bad_chunks_names_them_again(folder):
    poison = {(1, 5), (1, 6), (1, 7), (2, 0)}
    work(Ledger(tasks_of(folder)), poison)
    left = [task for task in tasks_of(folder) if not task.is_done]
    outcomes = work(Ledger(left), poison)
    failed = {
        (o.partition, row) for o in outcomes if isinstance(o, Failure) for row in range(*o.rows)
    }
    assert failed == poison


def test_more_bad_chunks_than_a_search_allows_are_not_marked_untried(folder):
    tasks = tasks_of(folder, 2)
    with pytest.raises(RuntimeError, match="poison"):
        work(Ledger(tasks, halvings=2), {(1, row) for row in range(CHUNKS)})


def test_partitions_come_before_the_pieces_of_those_that_failed(folder):
    tried: list[int] = []
    work(Ledger(tasks_of(folder)), {(0, 3)}, lambda task: tried.append(task.index))
    assert tried[:3] == [0, 1, 2]
    assert set(tried[3:]) == {0}


def test_halving_is_told(folder):
    told: list[tuple[tuple[int, int], str]] = []
    ledger = Ledger(tasks_of(folder)[:1], lambda task, reason: told.append((task.rows, reason)))
    work(ledger, {(0, 0)})
    assert told == [((0, end), "RuntimeError: poison") for end in (13, 6, 3)]


def test_a_receipt_for_fewer_chunks_is_an_error(folder):
    task = tasks_of(folder)[0]
    with pytest.raises(LostRowsError, match="13 chunks went in, 12 came out"):
        list(Ledger([task]).done(task, Receipt(0, CHUNKS - 1, 0, 0, 0)))


def test_what_killed_a_worker_runs_alone_from_then_on(folder):
    first, second, sound = tasks_of(folder)
    ledger = Ledger([sound, first, second])
    assert ledger.take() == sound
    assert list(ledger.done(sound, compute(sound))) != []
    assert (ledger.take(), ledger.take(busy=True)) == (first, second)
    assert list(ledger.failed(first, WorkerDiedError("died"))) == []
    assert ledger.take(busy=True) is None, "the second still runs"
    assert list(ledger.done(second, compute(second))) != []
    suspect = ledger.take()
    assert suspect.rows == (0, 6)
    assert ledger.take(busy=True) is None
    assert list(ledger.done(suspect, compute(suspect))) == []
    assert ledger.take().rows == (6, 13)


def test_deaths_of_which_nothing_is_known_cost_no_task(folder):
    """Whoever merely waited is tried again, once a chunk is seen to be computed."""
    first, second, _ = tasks_of(folder)
    ledger = Ledger([first, second])
    assert ledger.take() == first
    assert list(ledger.failed(first, WorkerLostError("died"))) == []
    trial = ledger.take()
    assert trial.is_trial
    assert list(ledger.done(trial, Receipt(0, 1, 1, 0, 0, {"work": 1.0}))) == []
    outcomes = work(ledger, set())
    assert {o.partition for o in outcomes if isinstance(o, Receipt)} == {0, 1}


def test_deaths_are_alike_whatever_is_known_of_them(folder):
    first, second, _ = tasks_of(folder)
    ledger = Ledger([first, second])
    assert (ledger.take(), ledger.take(busy=True)) == (first, second)
    assert list(ledger.failed(first, WorkerLostError("workers died"))) == []
    trials = [ledger.take(busy=True) for _ in range(2)]
    assert list(ledger.failed(second, WorkerDiedError("its worker died 3 times"))) == []
    assert list(ledger.failed(trials[0], WorkerDiedError("its worker died 1 time"))) == []
    with pytest.raises(NoClusterError, match="whatever they compute"):
        list(ledger.failed(trials[1], WorkerLostError("workers died")))


def test_a_chunk_is_not_given_up_for_deaths_beside_others(folder):
    task = PartitionTask(folder, 0, 1, "c0", "f0", "p0", True)
    ledger = Ledger([task])
    assert ledger.take() == task
    assert list(ledger.failed(task, WorkerDiedError("died"))) == []
    assert ledger.take(busy=True) is None
    assert ledger.take() == task
    ledger.again(task)
    assert ledger.take() == task
    assert list(ledger.failed(task, WorkerDiedError("died"))) == [Failure(0, "died", (0, 1))]
