from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.stages.crash_marks import WorkerDiedError
from virnuc_dask.stages.predict import predict, predict_frames
from virnuc_dask.stages.receipt import Extracted, Failure, Receipt
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import is_done, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask
from virnuc_dask.tables.vectors import to_column

ROWS, NUCLEOTIDE_DIM, PEPTIDE_DIM = 20, 3, 2


@pytest.fixture
def models() -> SimpleNamespace:
    """A model set of a real, tiny classifier."""
    torch.manual_seed(1)
    dim = NUCLEOTIDE_DIM + PEPTIDE_DIM
    classifier = Classifier(dim, hidden=4).eval().requires_grad_(False)
    classifier.output.bias.zero_()  # so that both labels occur
    info = SimpleNamespace(name="tiny", feature_dim=dim, reads_genes=False)
    return SimpleNamespace(info=info, classifier=classifier)


@pytest.fixture
def features() -> pa.Table:
    rng = np.random.default_rng(4)
    names = [f"r_chunk_{row}" for row in range(ROWS)]
    given = {
        "frame_id": [f"{name}F1" for name in names],
        "chunk_id": names,
        "record_id": ["r"] * ROWS,
        "chunk_row": range(ROWS),
        "strand": ["F"] * ROWS,
        "nucleotide": to_column(rng.normal(size=(ROWS, NUCLEOTIDE_DIM)), "float32"),
        "peptide": to_column(rng.normal(size=(ROWS, PEPTIDE_DIM)), "float32"),
    }
    return schemas.filled(schemas.features(NUCLEOTIDE_DIM, PEPTIDE_DIM), given, ROWS)


@pytest.fixture
def task(tmp_path: Path, features: pa.Table) -> PartitionTask:
    """A partition whose features are written."""
    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    write_table(folder.features(0), features, "features")
    return PartitionTask(folder, 0, ROWS, "content", "features", "predictions", keep_features=True)


def extracted(rows: int = ROWS) -> Extracted:
    """What `extract` hands on where the table is on disk."""
    return Extracted(Receipt(0, ROWS, rows, 1, 2, {"read": 0.5}))


class FixedScores:
    """Gives every frame the same two scores."""

    def __init__(self, others: float, virus: float) -> None:
        self.scores = [others, virus]

    def score(self, features: np.ndarray) -> np.ndarray:
        return np.array([self.scores] * len(features), np.float32)


def test_every_frame_is_scored_from_its_own_two_embeddings(features, models):
    predictions = predict_frames(features, models)
    assert predictions.schema == schemas.PREDICTIONS
    for row, predicted in zip(features.to_pylist(), predictions.to_pylist(), strict=True):
        values = np.array([row["nucleotide"] + row["peptide"]], np.float32)
        others, virus = models.classifier.score(values)[0]
        for name in ("frame_id", "chunk_id", "record_id", "chunk_row"):
            assert predicted[name] == row[name]
        assert predicted["score_others"] == pytest.approx(others, abs=1e-6)
        assert predicted["score_virus"] == pytest.approx(virus, abs=1e-6)
        assert predicted["label"] == ("virus" if virus > others else "others")
    assert len(set(predictions["label"].to_pylist())) == 2
    pieces = pa.concat_tables([features.slice(0, 7), features.slice(7)])
    assert predict_frames(pieces, models).equals(predictions)
    assert predict_frames(features.slice(0, 0), models).schema == schemas.PREDICTIONS


@pytest.mark.parametrize(("others", "virus", "label"), [(0.5, 0.5, "others"), (0.4, 0.6, "virus")])
def test_a_frame_is_virus_by_the_larger_score_and_a_tie_is_others(
    features, models, others, virus, label
):
    models.classifier = FixedScores(others, virus)
    assert set(predict_frames(features, models)["label"].to_pylist()) == {label}


def test_features_of_another_size_than_the_classifiers_are_refused(features, models):
    models.info.feature_dim = 7
    with pytest.raises(BadTableError, match=r"features have 5 values.*'tiny' wants 7"):
        predict_frames(features, models)


@pytest.mark.parametrize("handed_on", [False, True])
def test_predictions_are_written_and_the_receipt_passed_on(task, models, features, handed_on):
    given = extracted()
    if handed_on:
        task.features_path.unlink()
        given = replace(given, features=features)
    receipt = predict(task, models, given)
    assert read_table(task.predictions_path, "predictions").equals(predict_frames(features, models))
    assert set(receipt.elapsed_s) == {"read", "predict"}
    assert receipt.viral == predict_frames(features, models)["label"].to_pylist().count("virus")
    assert replace(receipt, elapsed_s=given.receipt.elapsed_s, viral=0) == given.receipt


def test_predictions_that_lack_chunks_are_not_the_planned_ones(task, models, features):
    failures = (Failure(0, "poison", (3, 4)),)
    kept = features.filter([row != 3 for row in range(ROWS)])
    receipt = Receipt(0, ROWS - 1, ROWS - 1, 1, 2, failures=failures)
    assert predict(task, models, Extracted(receipt, kept)).failures == failures
    assert not is_done(task.predictions_path, "predictions")
    lacking = task.lacking([(3, 4)]).predictions
    assert len(read_table(task.predictions_path, lacking)) == ROWS - 1


def test_of_a_partition_that_failed_nothing_is_written(task, models):
    receipt = Receipt.of_failed(task, "poison")
    assert predict(task, models, Extracted(receipt)) == receipt
    assert not task.predictions_path.exists()


def test_what_killed_three_workers_while_it_was_scored_is_not_scored_again(task, models):
    task.folder.unfinished.mkdir()
    for number in range(3):
        (task.folder.unfinished / f"{task.name}.predict.{number:012x}.attempt").touch()
    with pytest.raises(WorkerDiedError, match="died 3 time"):
        predict(task, models, extracted())


def test_predictions_that_are_there_are_taken_as_they_are_but_counted(task, models):
    predict(task, models, extracted())
    before = task.predictions_path.stat().st_mtime_ns
    models.classifier = None  # is not asked
    predict(task, models, extracted())
    assert task.predictions_path.stat().st_mtime_ns == before
    with pytest.raises(LostRowsError, match="19 frames went in, 20 came out"):
        predict(task, models, extracted(ROWS - 1))


@pytest.mark.parametrize("change", [{"predictions": "by another classifier"}, {"rescore": True}])
def test_another_classifier_or_scoring_again_makes_predictions_again(task, models, change):
    predict(task, models, extracted())
    models.classifier = FixedScores(0.25, 0.75)
    again = replace(task, **change)
    predict(again, models, extracted())
    table = read_table(task.predictions_path, again.predictions)
    assert set(table["score_virus"].to_pylist()) == {0.75}


def test_a_frame_that_does_not_come_out_is_an_error_and_features_stay(task, models):
    with pytest.raises(LostRowsError, match="partition 0: 21 frames went in, 20 came out"):
        predict(replace(task, keep_features=False), models, extracted(ROWS + 1))
    assert not is_done(task.predictions_path, "predictions")
    assert is_done(task.features_path, "features")


def test_a_frame_without_a_finite_embedding_is_an_error_and_not_a_label(features, models):
    spoilt = np.zeros((ROWS, PEPTIDE_DIM), np.float32)
    spoilt[7] = np.nan
    column = features.schema.get_field_index("peptide")
    features = features.set_column(column, "peptide", to_column(spoilt, "float32"))
    with pytest.raises(LostRowsError, match="frame r_chunk_7F1 has no score"):
        predict_frames(features, models)
