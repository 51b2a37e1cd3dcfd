"""Feature table → predictions: one label and two scores a frame, or a gene."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.stages.crash_marks import DEATHS_OF_PARTITION, PREDICT, CrashMarks, WorkerDiedError
from virnuc_dask.stages.extract import extract, require_finite
from virnuc_dask.stages.receipt import Extracted, Receipt, Stopwatch
from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import count_rows, is_done, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask
from virnuc_dask.tables.vectors import from_column, to_column

if TYPE_CHECKING:
    from virnuc_dask.modelsets.modelset import ModelSet

_LEAST = np.float32(1e-30)  # of a score, so that it has a logarithm


def predict(task: PartitionTask, models: ModelSet, extracted: Extracted) -> Receipt:
    """Make a partition's prediction table, unless it is there already.

    `LostRowsError` if frames went in that did not come out, `WorkerDiedError` if it killed workers.
    """
    receipt, watch, viral = extracted.receipt, Stopwatch(), 0
    lacking = task.lacking(receipt.failed_rows)
    if not receipt.chunks:
        return receipt
    if not task.rescore and is_done(lacking.predictions_path, lacking.predictions):
        _require_all(task, receipt, count_rows(lacking.predictions_path))
    else:
        with watch.time("predict"), _marked(task):
            features = extracted.features
            if features is None:
                features = read_table(lacking.features_path, lacking.features)
            make = predict_genes if models.info.reads_genes else predict_frames
            predictions = make(features, models)
            # Before writing: a table that is there counts as done.
            _require_all(task, receipt, len(predictions))
            write_table(lacking.predictions_path, predictions, lacking.predictions)
            viral = int(pc.sum(pc.equal(predictions["label"], "virus")).as_py() or 0)
    if not task.keep_features:
        task.features_path.unlink(missing_ok=True)
    return replace(receipt, elapsed_s={**receipt.elapsed_s, **watch.elapsed_s}, viral=viral)


@contextmanager
def _marked(task: PartitionTask) -> Iterator[None]:
    marks = CrashMarks.of(task)
    if (deaths := marks.deaths(PREDICT)) >= DEATHS_OF_PARTITION:
        raise WorkerDiedError.after(deaths)
    with marks.attempt(PREDICT):
        yield


def extract_and_predict(task: PartitionTask, models: ModelSet) -> Receipt:
    """Both stages of a partition with one model set."""
    return predict(task, models, extract(task, models))


def predict_frames(features: pa.Table, models: ModelSet) -> pa.Table:
    """Label and scores of every row of a feature table, order kept; see `schemas.PREDICTIONS`.

    A frame is `virus` if that score is the larger one; a tie is `others`.
    """
    _, *scores = _scored(features, models)
    columns = features.select(["frame_id", "chunk_id", "record_id", "chunk_row"]).columns
    return pa.table([*columns, *scores], schema=schemas.PREDICTIONS)


def predict_genes(features: pa.Table, models: ModelSet) -> pa.Table:
    """As `predict_frames`, with what the contig model looks at; see `schemas.gene_predictions`.

    The first of a row's ``evidence`` is its `viral_logit`.
    """
    values, label, others, virus = _scored(features, models)
    logit = viral_logit(virus.to_numpy(), others.to_numpy())
    evidence = np.column_stack([logit, values[:, list(models.info.evidence)]])
    columns = [
        *features.select(schemas.GENE_ROWS.names).columns,
        *(label, others, virus),
        to_column(evidence, "float32"),
    ]
    return pa.table(columns, schema=schemas.gene_predictions(evidence.shape[1]))


def viral_logit(virus: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(score_virus / score_others): the difference of the classifier's two logits."""
    logit: NDArray[np.float32] = np.log(np.maximum(virus, _LEAST)) - np.log(
        np.maximum(others, _LEAST)
    )
    return logit


def _scored(
    features: pa.Table, models: ModelSet
) -> tuple[NDArray[np.float32], pa.Array, pa.Array, pa.Array]:
    """Features as the classifier sees them; label, score of others and of virus of every row."""
    values = np.hstack([from_column(features, "nucleotide"), from_column(features, "peptide")])
    if values.shape[1] != models.info.feature_dim:
        raise BadTableError(
            f"features have {values.shape[1]} values, the classifier of {models.info.name!r} "
            f"wants {models.info.feature_dim}; extract them again with that model set."
        )
    scores = models.classifier.score(values)
    require_finite(scores, features)
    others, virus = scores.T
    label = pa.array(np.where(virus > others, "virus", "others"), pa.string())
    return values, label, pa.array(others), pa.array(virus)


def _require_all(task: PartitionTask, extracted: Receipt, rows: int) -> None:
    if rows != extracted.frames:
        raise LostRowsError(
            f"partition {task.index}: {extracted.frames} frames went in, {rows} came out."
        )
