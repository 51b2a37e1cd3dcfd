import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.stages.calls import CallRule, ContigCalls, ContigScores, call_chunks
from virnuc_dask.tables import schemas

# Frames as (chunk row, score of others, score of virus).
Frames = list[tuple[int, float, float]]


def chunk_table(record_indices: list[int]) -> pa.Table:
    """Chunks of records as a run reads them back, without their sequences."""
    given = {
        "chunk_id": [f"r{index}_chunk_{row}" for row, index in enumerate(record_indices)],
        "record_id": [f"r{index}" for index in record_indices],
        "record_index": record_indices,
        "sequence": [""] * len(record_indices),
    }
    return schemas.filled(schemas.PARTITION, given, len(record_indices)).drop_columns("sequence")


def prediction_table(frames: Frames) -> pa.Table:
    given = {
        **dict.fromkeys(("frame_id", "chunk_id", "record_id", "label"), ["unused"] * len(frames)),
        "chunk_row": [row for row, _, _ in frames],
        "score_others": [others for _, others, _ in frames],
        "score_virus": [virus for *_, virus in frames],
    }
    return schemas.filled(schemas.PREDICTIONS, given, len(frames))


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
    assert [row["reason"] for row in calls([0, 1], [])] == ["no_open_frame"] * 2


def test_the_chunks_of_a_failed_partition_say_so():
    rows = calls([0, 1], None)
    told = [(row["frames"], row["score_virus"], row["call"], row["reason"]) for row in rows]
    assert told == [(0, None, None, "failed")] * 2


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


def calls_of(
    partitions: list[pa.Table], records: int = 6, rule: CallRule | None = None
) -> ContigCalls:
    scores = ContigScores(records, rule)
    for table in partitions:
        scores.add(table)
    return ContigCalls.joined(scores.calls())


def test_a_contigs_score_is_the_mean_over_its_scored_chunks(partitions):
    found = calls_of(partitions)
    rows = [row for table in partitions for row in table.to_pylist()]
    for index in range(6):
        support = [
            (1 + row["score_virus"] - row["score_others"]) / 2
            for row in rows
            if row["record_index"] == index and row["call"] is not None
        ]
        assert found.chunks_scored[index] == len(support)
        if support:
            mean = sum(support) / len(support)
            assert found.score[index] == pytest.approx(mean, abs=1e-12)
            assert found.call[index] == ("virus" if mean >= 0.5 else "others")
        else:
            assert np.isnan(found.score[index])
            assert found.call[index] == "unscored"
    assert set(found.call.tolist()) == {"virus", "others", "unscored"}


def test_the_partition_sizes_do_not_change_a_contigs_call(partitions):
    apart = calls_of(partitions, rule=CallRule(CALIBRATION))
    together = calls_of([pa.concat_tables(partitions)], rule=CallRule(CALIBRATION))
    for name in ("score", "probability", "q_value"):
        assert np.array_equal(getattr(apart, name), getattr(together, name), equal_nan=True)


@pytest.mark.parametrize("calibrated", [False, True])
def test_no_records_have_no_calls(calibrated):
    found = calls_of([], 0, CallRule(CALIBRATION if calibrated else None))
    assert found.score.tolist() == found.call.tolist() == found.order.tolist() == []
    assert found.prevalence is None


# A chunk's evidence is its margin, at most 8; a record's is that of its chunks on average, times
# how many they are worth, less 1.
CALIBRATION = Calibration(
    chunk_knots=((-8.0, -8.0), (8.0, 8.0)),
    correlation=0.5,
    offset=0.0,
    contig_knots=((-9.0, -10.0), (9.0, 8.0)),
    method="by hand",
)


def contigs(*scores: list[float]) -> list[pa.Table]:
    """A partition of records whose chunks have these scores of virus."""
    records = [index for index, chunks in enumerate(scores) for _ in chunks]
    flat = [score for chunks in scores for score in chunks]
    frames = [(row, 1 - score, score) for row, score in enumerate(flat)]
    return [call_chunks(chunk_table(records), prediction_table(frames))]


def test_without_a_calibration_there_is_no_probability_and_no_q_value():
    found = calls_of(contigs([0.5], [0.2], []), 3)
    assert np.isnan([found.probability, found.q_value]).all()
    assert found.prevalence is None
    assert found.order.tolist() == [0, 1]
    assert found.call.tolist() == ["virus", "others", "unscored"], "one half is virus"
    assert str(found.rule) == "score >= 0.5"


def test_a_probability_counts_all_chunks_and_decides_the_call():
    found = calls_of(contigs([0.6], [0.6] * 9, [0.2] * 3, []), 4, CallRule(CALIBRATION))
    margin = 2 * np.log(0.6 / 0.4)
    expected = [margin - 1, margin * 9 / 5 - 1]
    assert found.probability[:2] == pytest.approx(1 / (1 + np.exp(-np.array(expected))), abs=1e-6)
    assert found.call.tolist() == ["others", "virus", "others", "unscored"]
    assert found.score[:2] == pytest.approx([0.6, 0.6])
    assert str(found.rule) == "probability >= 0.5"


def test_nothing_scored_is_nothing_called():
    found = calls_of([call_chunks(chunk_table([0, 1]), None)], 2, CallRule(CALIBRATION, 0.05))
    assert found.call.tolist() == ["unscored"] * 2
    assert found.prevalence is None
    assert np.isnan(found.q_value).all()


def test_the_surest_records_come_first_and_not_the_highest_scores():
    records = contigs([0.97], [0.9] * 30, [], [0.9] * 60, [0.1])
    assert calls_of(records, 5).order.tolist() == [0, 1, 3, 4]
    found = calls_of(records, 5, CallRule(CALIBRATION))
    assert found.probability[1] == pytest.approx(found.probability[3], abs=1e-3)
    assert found.order.tolist() == [3, 1, 0, 4]


def test_a_false_discovery_rate_without_a_calibration_is_an_error():
    with pytest.raises(ValueError, match="needs a calibration"):
        CallRule(None, 0.05)
