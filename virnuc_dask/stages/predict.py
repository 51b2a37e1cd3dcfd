"""Feature table → predictions: one label and two scores a frame."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.stages.extract import extract
from virnuc_dask.stages.receipt import Receipt, Stopwatch
from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import count_rows, is_done, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask
from virnuc_dask.tables.vectors import from_column

if TYPE_CHECKING:
    from virnuc_dask.modelsets.modelset import ModelSet


def predict(task: PartitionTask, models: ModelSet, extracted: Receipt) -> Receipt:
    """Make a partition's prediction table, unless it is there already.

    Raises
    ------
    LostRowsError
        If frames went in that did not come out.
    """
    watch = Stopwatch()
    path = task.predictions_path
    if not task.rescore and is_done(path, task.predictions):
        _require_all(task, extracted, count_rows(path))
    else:
        with watch.time("predict"):
            features = read_table(task.features_path, task.features)
            predictions = predict_frames(features, models)
            # Before writing: a table that is there counts as done.
            _require_all(task, extracted, len(predictions))
            write_table(path, predictions, task.predictions)
    if not task.keep_features:
        task.features_path.unlink(missing_ok=True)
    return replace(extracted, elapsed_s={**extracted.elapsed_s, **watch.elapsed_s})


def extract_and_predict(task: PartitionTask, models: ModelSet) -> Receipt:
    """Both stages of a partition with one model set."""
    return predict(task, models, extract(task, models))


def predict_frames(features: pa.Table, models: ModelSet) -> pa.Table:
    """Label and scores of every row of a feature table, order kept; see `schemas.PREDICTIONS`.

    A frame is `virus` if that score is the larger one; a tie is `others`.
    """
    values = np.hstack([from_column(features, "nucleotide"), from_column(features, "peptide")])
    if values.shape[1] != models.info.feature_dim:
        raise BadTableError(
            f"features have {values.shape[1]} values, the classifier of {models.info.name!r} "
            f"wants {models.info.feature_dim}; extract them again with that model set."
        )
    scores = models.classifier.score(values)
    if not (finite := np.isfinite(scores).all(axis=1)).all():
        frame = features["frame_id"][int(np.argmin(finite))]
        raise LostRowsError(f"frame {frame} has no score: its embedding is not finite.")
    labels = np.where(scores[:, 1] > scores[:, 0], "virus", "others")
    columns = [
        *features.select(["frame_id", "chunk_id", "record_id", "chunk_row"]).columns,
        pa.array(labels, pa.string()),
        pa.array(scores[:, 0]),
        pa.array(scores[:, 1]),
    ]
    return pa.table(columns, schema=schemas.PREDICTIONS)


def _require_all(task: PartitionTask, extracted: Receipt, rows: int) -> None:
    if rows != extracted.frames:
        raise LostRowsError(
            f"partition {task.index}: {extracted.frames} frames went in, {rows} came out."
        )
