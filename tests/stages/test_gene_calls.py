from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.modelsets.calibration import Calibration, probability
from virnuc_dask.modelsets.contig_model import Verdict
from virnuc_dask.stages.calls import CallRule, ContigCalls, ContigScores, call_pieces
from virnuc_dask.stages.gene_calls import GeneScores, covered, rows_of_frames
from virnuc_dask.tables import schemas

LENGTHS = np.array([9_000, 400, 3_000, 0, 5_000])
# Rows as (record, start, end, score of virus); those of record 1 are frames, and one of record 4.
ROWS = [
    (0, 0, 900, 0.9),
    (0, 850, 1900, 0.8),
    (0, 4000, 5200, 0.7),
    (0, 8000, 9000, 0.2),
    (1, 0, 400, 0.9),
    (1, 0, 400, 0.6),
    (2, 30, 630, 0.1),
    (4, 0, 500, 0.9),  # a frame beside genes
    (4, 1000, 1600, 0.2),
    (4, 2000, 2600, 0.1),
]
RECORDS_OF_ROWS = [row[0] for row in ROWS]
FRAMES = {(1, 0), (4, 0)}


class MeanLogit:
    """Believes the mean logit of a record's rows; its reliability is that of their number."""

    viral_models = np.array([45])

    def __init__(self, *readings: str) -> None:
        self.readers = dict.fromkeys(("genes", *readings))

    def judge(self, sums, length_nt, reading):
        assert reading in self.readers
        assert (length_nt == LENGTHS[sums.record_index]).all()
        count = sums.genes["genes"]
        logit = sums.evidence["sum"][:, 0]
        return Verdict(logit / count, 1 - 1 / (1 + count))


def prediction_table(rows) -> pa.Table:
    record, start, end, virus = ([row[place] for row in rows] for place in range(4))
    texts = ("frame_id", "chunk_id", "record_id", "strand", "start_type")
    given = dict.fromkeys(texts, [""] * len(rows)) | {
        "record_index": record,
        "start": start,
        "end": end,
        "reading": ["frames" if row[:2] in FRAMES else "genes" for row in rows],
        "label": ["virus" if score > 0.5 else "others" for score in virus],
        "score_virus": virus,
        "score_others": [1 - score for score in virus],
        "evidence": [[float(np.log(score / (1 - score)))] for score in virus],
    }
    return schemas.filled(schemas.gene_predictions(1), given, len(rows))


def frame_table(frames) -> pa.Table:
    """Predictions of a set that reads frames, from (frame id, chunk row, score of virus)."""
    columns = [[name, "c", "r", row, "label", 1 - v, v] for name, row, v in frames]
    columns = [list(column) for column in zip(*columns, strict=True)]
    return pa.table(columns, schema=schemas.PREDICTIONS)


def chunk_calls(records) -> pa.Table:
    """Calls of pieces, one of each of ``records``."""
    columns = pa.array(records, pa.int64()), pa.array(["virus"] * len(records), pa.string())
    return pa.table(columns, names=["record_index", "call"])


def calls_of(rule: CallRule, model: MeanLogit, cuts=()) -> tuple[ContigCalls, list[pa.Table]]:
    """Calls from `ROWS`, in partitions that end at ``cuts``."""
    passed: list[pa.Table] = []
    scores = GeneScores([LENGTHS[:2], LENGTHS[2:]], rule, model, passed.append)
    for first, end in zip((0, *cuts), (*cuts, len(ROWS)), strict=True):
        begun = [r for r in (0, 1, 2, 4) if first <= RECORDS_OF_ROWS.index(r) < end]
        scores.add(chunk_calls(begun), prediction_table(ROWS[first:end]))
    return ContigCalls.joined(scores.calls()), passed


RULE = CallRule(contig_model=MeanLogit())


def test_a_records_call_is_its_genes_alone():
    calls, _ = calls_of(RULE, MeanLogit())
    logit = {row: np.log(row[3] / (1 - row[3])) for row in ROWS}
    expected = np.mean([logit[row] for row in ROWS if row[0] == 0])
    assert calls.probability[0] == pytest.approx(probability(expected))
    assert calls.basis.genes.tolist() == [4, 0, 1, 0, 2]
    assert calls.basis.viral_genes.tolist() == [3, 0, 0, 0, 0]
    assert calls.call.tolist() == ["virus", "virus", "others", "unscored", "others"]
    assert calls.score[0] == calls.probability[0]
    assert calls.chunks_scored.tolist() == [1, 1, 1, 0, 1]
    np.testing.assert_array_equal(calls.virus_fraction, [np.nan, 1, np.nan, np.nan, np.nan])


def test_a_record_by_frames_has_its_best_frames_score_and_no_probability():
    calls, _ = calls_of(RULE, MeanLogit())
    # The largest of both scores, each on its own, as ever.
    assert calls.score[1] == pytest.approx((1 + 0.9 - 0.4) / 2)
    assert np.isnan([calls.probability[1], calls.q_value[1], calls.basis.reliability[1]]).all()


CALIBRATION = Calibration(
    ((-4.0, -4.0), (4.0, 4.0)), 0.0, 0.0, ((-8.0, -8.0), (8.0, 8.0)), "by hand"
)


def test_a_contig_model_that_knows_frames_weighs_them_too():
    calls, _ = calls_of(RULE, MeanLogit("frames"))
    expected = probability(np.mean([np.log(score / (1 - score)) for score in (0.9, 0.6)]))
    assert calls.probability[1] == calls.score[1] == pytest.approx(expected)
    assert calls.basis.reliability[1] == pytest.approx(1 - 1 / 3)
    assert calls.basis.genes[1] == 0
    others, _ = calls_of(RULE, MeanLogit())
    assert calls.probability[4] == others.probability[4]


def test_with_a_calibration_records_by_frames_have_a_probability_too():
    rule = CallRule(CALIBRATION, None, MeanLogit())
    calls, _ = calls_of(rule, MeanLogit())
    frames = ContigScores(5, CallRule(CALIBRATION))
    scores = {"score_virus": [0.9], "score_others": [0.4], "start": [0], "end": [500]}
    frames.add(pa.table({"record_index": [1], "call": ["virus"], **scores}))
    (by_frames,) = frames.calls()
    assert calls.probability[1] == pytest.approx(by_frames.probability[1]) == calls.score[1]
    assert calls.probability[4] < 0.5, "its frame does not count"


@pytest.mark.parametrize("cuts", [(1,), (2, 3), (4,), (4, 6), range(1, 10)])
def test_where_partitions_end_changes_nothing(cuts):
    calls, passed = calls_of(RULE, MeanLogit(), tuple(cuts))
    expected, whole = calls_of(RULE, MeanLogit())
    for name in ("score", "probability", "q_value", "call", "order"):
        np.testing.assert_array_equal(getattr(calls, name), getattr(expected, name))
    for name in ("genes", "viral_genes", "coding_density", "reliability"):
        ours, theirs = getattr(calls.basis, name), getattr(expected.basis, name)
        np.testing.assert_array_equal(ours, theirs)
    assert pa.concat_tables(passed).equals(pa.concat_tables(whole))


def test_bases_of_several_genes_are_counted_once():
    calls, _ = calls_of(RULE, MeanLogit())
    expected = np.array([1900 + 1200 + 1000, 0, 600, 0, 1200])
    np.testing.assert_allclose(calls.basis.coding_density, expected / np.maximum(LENGTHS, 1))
    start, end = np.array([0, 10, 20, 0, 5]), np.array([100, 50, 120, 7, 6])
    assert covered(start, end, np.array([0, 0, 0, 1, 1])).tolist() == [120, 7]


@pytest.mark.parametrize(
    ("rule", "told", "call"),
    [
        ({"reliable": 0.75}, "probability >= 0.5", "virus virus unsure unscored unsure"),
        ({"called": ((1, 0.99),)}, "probability >= 0.99", "others virus others unscored others"),
        ({"fdr": 0.5}, "q_value <= 0.5", "virus unsure others unscored others"),
    ],
    ids=["what is not reliable is unsure", "from a probability on", "without a q-value unsure"],
)
def test_the_rule_decides_the_calls(rule, told, call):
    rule = replace(RULE, **rule)
    calls, _ = calls_of(rule, MeanLogit())
    assert (str(rule), " ".join(calls.call.tolist())) == (told, call)


def test_frames_of_a_set_that_reads_frames_are_rows_of_their_chunks():
    chunks = pa.table(
        {"record_index": [0, 4], "start": [0, 450], "end": [500, 950], "call": ["virus", None]}
    )
    frames = [("x_chunk_1F1", 0, 0.9), ("x_chunk_1R3", 0, 0.2), ("x_chunk_2F2", 1, 0.5)]
    predictions = frame_table(frames)
    found = rows_of_frames(chunks, predictions)
    assert found.schema == schemas.gene_predictions(1)
    assert found["record_index"].to_pylist() == [0, 0, 4]
    assert found["start"].to_pylist() == [0, 0, 450]
    assert found["end"].to_pylist() == [500, 500, 950]
    assert found["strand"].to_pylist() == ["+", "-", "+"]
    assert {*found["reading"].to_pylist(), *found["start_type"].to_pylist()} == {"frames", "edge"}
    logits = [row[0] for row in found["evidence"].to_pylist()]
    np.testing.assert_allclose(logits, [np.log(9), -np.log(4), 0], rtol=1e-6)


def test_of_frames_the_contig_model_judges_no_record_shorter_than_those_it_knows():
    model = MeanLogit("frames")
    knows = SimpleNamespace(length_nt=np.array([500.0]))
    model.readers["frames"] = SimpleNamespace(calibration=knows)
    chunks = pa.table(
        {
            "record_index": [1, 2],
            "start": [0, 0],
            "end": [400, 400],
            "score_virus": pa.array([0.9, 0.8], pa.float32()),
            "score_others": pa.array([0.1, 0.2], pa.float32()),
            "call": ["virus", "virus"],
        }
    )
    predictions = frame_table([("f1F1", 0, 0.9), ("f2F1", 1, 0.8)])
    scores = GeneScores([LENGTHS], CallRule(contig_model=model), model, reads_genes=False)
    scores.add(chunks, predictions)
    (calls,) = scores.calls()
    # Of 400 nt and of 3,000 nt.
    np.testing.assert_allclose(calls.probability[[1, 2]], [np.nan, 0.8], rtol=1e-6)
    np.testing.assert_allclose(calls.score[[1, 2]], [0.9, 0.8], rtol=1e-6)
    assert calls.call[[1, 2]].tolist() == ["virus", "virus"]


def test_a_pieces_scores_are_the_means_of_its_rows():
    rows = pa.table(
        {
            "chunk_row": [0, 0, 2],
            "score_others": pa.array([0.25, 0.75, 0.625], pa.float32()),
            "score_virus": pa.array([0.75, 0.25, 0.375], pa.float32()),
        }
    )
    names = [field.name for field in schemas.PARTITION if field.name != "sequence"]
    pieces = pa.table(
        {name: ["x"] * 3 if "id" in name and "index" not in name else [0] * 3 for name in names}
    )
    called = call_pieces(pieces, rows).to_pylist()
    assert [row["score_virus"] for row in called] == [0.5, None, 0.375]
    assert [row["call"] for row in called] == ["virus", None, "others"]
    assert [row["reason"] for row in called] == [None, "no_open_frame", None]
    assert [row["frames"] for row in called] == [2, 0, 1]
