"""Predictions → calls: frames to chunks, chunks to contigs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.tables import schemas

NO_OPEN_FRAME = "no_open_frame"
FAILED = "failed"
VIRUS, OTHERS, UNSCORED = "virus", "others", "unscored"


def call_chunks(chunks: pa.Table, predictions: pa.Table | None) -> pa.Table:
    """One call per chunk of a partition; see `schemas.CHUNKS`.

    A chunk's scores are the largest of its frames', each on its own, and it is `virus` if that
    of virus is not the smaller one: the published rule, a tie included. A chunk without a frame
    has no call but a reason.

    Parameters
    ----------
    chunks
        The partition's rows, without their sequences.
    predictions
        Of the same partition; None if it failed.
    """
    rows = predictions["chunk_row"].to_numpy() if predictions is not None else np.empty(0, np.int64)
    frames = np.bincount(rows, minlength=len(chunks)).astype(np.int32)
    scored = frames > 0
    scores: dict[str, Any] = {}
    for name in ("score_others", "score_virus"):
        highest = np.full(len(chunks), -np.inf, np.float32)
        if predictions is not None:
            np.maximum.at(highest, rows, predictions[name].to_numpy())
        scores[name] = highest
    is_virus = scores["score_virus"] >= scores["score_others"]
    reason = FAILED if predictions is None else NO_OPEN_FRAME
    columns = [
        *(chunks[field.name] for field in schemas.CHUNKS if field.name in chunks.column_names),
        pa.array(frames),
        pa.array(scores["score_others"], mask=~scored),
        pa.array(scores["score_virus"], mask=~scored),
        pa.array(np.where(is_virus, VIRUS, OTHERS), pa.string(), mask=~scored),
        pa.array(np.full(len(chunks), reason), pa.string(), mask=scored),
    ]
    return pa.table(columns, schema=schemas.CHUNKS)


class ContigScores:
    """The mean over each record's scored chunks, gathered partition by partition.

    A chunk counts with (1 + score_virus - score_others) / 2, in [0, 1]: above one half where the
    chunk itself is called virus. A record is virus from ``threshold`` on. 16 bytes a record,
    whatever its length.
    """

    def __init__(self, records: int, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self._sum = np.zeros(records)
        self.scored = np.zeros(records, np.int64)

    def add(self, chunks: pa.Table) -> None:
        """Take in the calls of a partition."""
        scored = chunks.filter(chunks["call"].is_valid())
        record = scored["record_index"].to_numpy()
        virus = scored["score_virus"].to_numpy().astype(np.float64)
        others = scored["score_others"].to_numpy().astype(np.float64)
        np.add.at(self._sum, record, (1 + virus - others) / 2)
        np.add.at(self.scored, record, 1)

    @property
    def score(self) -> NDArray[np.float64]:
        """Scores by record index; NaN where no chunk was scored."""
        mean = np.full(len(self._sum), np.nan)
        np.divide(self._sum, self.scored, out=mean, where=self.scored > 0)
        return mean

    @property
    def call(self) -> NDArray[np.str_]:
        """`virus` from the threshold on, `others` below, `unscored` without a score."""
        called = np.where(self.score >= self._threshold, VIRUS, OTHERS)
        return np.where(self.scored > 0, called, UNSCORED)
