import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.stages.calls import ContigScores, call_chunks
from virnuc_dask.tables import schemas

# Frames as (chunk row, score of others, score of virus).
Frames = list[tuple[int, float, float]]


def chunk_table(record_indices: list[int]) -> pa.Table:
    """Chunks of records as a run reads them back, without their sequences."""
    rows = len(record_indices)
    columns = [
        [f"r{index}_chunk_{row}" for row, index in enumerate(record_indices)],
        [f"r{index}" for index in record_indices],
        record_indices,
        range(1, rows + 1),
        [0] * rows,
        [500] * rows,
        [""] * rows,
    ]
    return pa.table(columns, schema=schemas.PARTITION).drop_columns("sequence")


def prediction_table(frames: Frames) -> pa.Table:
    rows = [row for row, _, _ in frames]
    columns = [
        [f"frame{number}" for number in range(len(frames))],
        [f"chunk{row}" for row in rows],
        ["r"] * len(frames),
        rows,
        ["unused"] * len(frames),
        [others for _, others, _ in frames],
        [virus for *_, virus in frames],
    ]
    return pa.table(columns, schema=schemas.PREDICTIONS)


def calls(records: list[int], frames: Frames | None) -> list[dict]:
    predictions = prediction_table(frames) if frames is not None else None
    called = call_chunks(chunk_table(records), predictions)
    assert called.schema == schemas.CHUNKS
    return called.to_pylist()


def test_a_chunks_scores_are_the_largest_of_its_frames_each_on_its_own():
    (row,) = calls([0], [(0, 0.75, 0.25), (0, 0.125, 0.5), (0, 0.5, 0.375)])
    assert (row["score_others"], row["score_virus"], row["frames"]) == (0.75, 0.5, 3)
    assert (row["call"], row["reason"]) == ("others", None)


@pytest.mark.parametrize(
    ("frames", "call"),
    [
        ([(0, 0.25, 0.75)], "virus"),
        ([(0, 0.75, 0.25)], "others"),
        ([(0, 0.5, 0.5)], "virus"),
        ([(0, 0.75, 0.25), (0, 0.25, 0.75)], "virus"),
    ],
    ids=["virus", "others", "tie of one frame", "tie of two frames"],
)
def test_a_chunk_is_virus_by_its_larger_score_and_a_tie_is_virus(frames, call):
    assert calls([0], frames)[0]["call"] == call


def test_predictions_find_their_chunk_whatever_their_order():
    rows = calls([0, 0, 1], [(2, 0.25, 0.75), (0, 0.75, 0.25), (2, 0.5, 0.5), (1, 0.125, 0.875)])
    assert [row["frames"] for row in rows] == [1, 1, 2]
    assert [row["score_virus"] for row in rows] == [0.25, 0.875, 0.75]
    assert [row["call"] for row in rows] == ["others", "virus", "virus"]


def test_a_chunk_without_an_open_frame_has_no_call_but_a_reason():
    scored, unscored = calls([0, 0], [(0, 0.25, 0.75)])
    assert scored["call"] == "virus"
    empty = {name: unscored[name] for name in ("frames", "score_others", "score_virus", "call")}
    assert empty == {"frames": 0, "score_others": None, "score_virus": None, "call": None}
    assert unscored["reason"] == "no_open_frame"


def test_the_chunks_of_a_failed_partition_say_so():
    rows = calls([0, 1], None)
    assert [(row["frames"], row["call"], row["reason"]) for row in rows] == [
        (0, None, "failed")
    ] * 2
    assert all(row["score_virus"] is None for row in rows)


def test_no_frame_in_a_whole_partition_is_no_failure():
    assert [row["reason"] for row in calls([0, 1], [])] == ["no_open_frame"] * 2


def test_chunks_keep_their_place_in_the_record():
    chunks = chunk_table([3, 3, 4])
    assert call_chunks(chunks, None).select(chunks.column_names).equals(chunks)


@pytest.fixture
def partitions() -> list[pa.Table]:
    """Calls of three partitions, whose records run from one to the next; record 4 has no chunk."""
    rng = np.random.default_rng(8)
    tables = []
    for records in ([0, 0, 0, 1], [1, 1, 2, 3], [3, 5]):
        scores = rng.random((len(records), 2)).astype(np.float32).tolist()
        frames = [(row, *pair) for row, pair in enumerate(scores) if records[row] != 2]
        tables.append(call_chunks(chunk_table(records), prediction_table(frames)))
    return tables


def test_a_contigs_score_is_the_mean_over_its_scored_chunks(partitions):
    scores = ContigScores(6)
    for table in partitions:
        scores.add(table)
    rows = [row for table in partitions for row in table.to_pylist()]
    for index in range(6):
        support = [
            (1 + row["score_virus"] - row["score_others"]) / 2
            for row in rows
            if row["record_index"] == index and row["call"] is not None
        ]
        assert scores.scored[index] == len(support)
        if support:
            mean = sum(support) / len(support)
            assert scores.score[index] == pytest.approx(mean, abs=1e-12)
            assert scores.call[index] == ("virus" if mean >= 0.5 else "others")
        else:
            assert np.isnan(scores.score[index])
            assert scores.call[index] == "unscored"
    assert set(scores.call.tolist()) == {"virus", "others", "unscored"}


def test_the_partition_sizes_do_not_change_a_contigs_score(partitions):
    apart, together = ContigScores(6), ContigScores(6)
    for table in partitions:
        apart.add(table)
    together.add(pa.concat_tables(partitions))
    assert np.array_equal(apart.score, together.score, equal_nan=True)


def test_a_contig_of_one_half_is_virus_as_its_chunk_is():
    scores = ContigScores(1)
    scores.add(call_chunks(chunk_table([0]), prediction_table([(0, 0.5, 0.5)])))
    assert (scores.score[0], scores.call[0]) == (0.5, "virus")


def test_a_failed_partition_leaves_a_contig_to_its_other_chunks():
    scores = ContigScores(2)
    scores.add(call_chunks(chunk_table([0, 1]), prediction_table([(0, 0.25, 0.75)])))
    scores.add(call_chunks(chunk_table([0, 1]), None))
    assert scores.scored.tolist() == [1, 0]
    assert scores.call.tolist() == ["virus", "unscored"]


def test_no_records_have_no_scores():
    scores = ContigScores(0)
    assert scores.score.tolist() == scores.call.tolist() == []


@pytest.mark.parametrize(("threshold", "call"), [(0.6, "virus"), (0.65, "others")])
def test_a_contig_is_virus_from_the_threshold_on(threshold, call):
    scores = ContigScores(1, threshold)
    scores.add(call_chunks(chunk_table([0]), prediction_table([(0, 0.375, 0.625)])))
    assert (scores.score[0], scores.call[0]) == (0.625, call)
