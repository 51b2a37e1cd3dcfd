"""What a model set's classifier makes of the records that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.lab.quality.figures import Flags, Floats, means
from virnuc_dask.lab.quality.scored import Level
from virnuc_dask.lab.training.frame_features import LabelledRun, PartitionFrames
from virnuc_dask.modelsets.calibration import Calibration, margins, probability
from virnuc_dask.modelsets.modelset import ModelSet
from virnuc_dask.stages.calls import VIRUS, CallRule, call_chunks
from virnuc_dask.stages.gene_calls import GeneScores
from virnuc_dask.stages.predict import predict_frames

# Longer records count as several contigs when a calibration is made.
MOST_CHUNKS = 100


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The scored frames and chunks of one part, in the order of the records."""

    frames: Level
    chunks: Level
    margins: Floats  # of the chunks; NaN without a score
    supported: Flags | None  # frames in a CDS, where the run knows
    length_nt: NDArray[np.int64]  # of all records of the run

    def contigs(self, calibration: Calibration | None) -> Level:
        """The records: the mean score of their chunks, or their probability of virus.

        They are called from one half on.
        """
        records, chunk_of = np.unique(self.chunks.record, return_inverse=True)
        score = means(self.chunks.score, chunk_of, len(records))
        if calibration is not None:
            score = probability(self._evidence(calibration, chunk_of, len(records)))
        first = np.searchsorted(self.chunks.record, records)
        return Level(
            score=score,
            called=score >= 0.5,
            is_virus=self.chunks.is_virus[first],
            record=records,
            length_nt=self.length_nt[records],
            probability=None if calibration is None else score,
        )

    def _evidence(
        self, calibration: Calibration, chunk_of: NDArray[np.int64], records: int
    ) -> Floats:
        scored = ~np.isnan(self.margins)
        evidence = calibration.evidence_of_margins(self.margins[scored])
        total: Floats = np.bincount(chunk_of[scored], evidence, records).astype(np.float64)
        return calibration.contig_evidence(total, np.bincount(chunk_of[scored], minlength=records))

    def pieces(self) -> tuple[list[Floats], list[bool]]:
        """Contigs to calibrate with: the margins of up to `MOST_CHUNKS` chunks, and the label."""
        scored = np.flatnonzero(~np.isnan(self.margins))
        if not len(scored):
            return [], []
        borders = np.flatnonzero(np.diff(self.chunks.record[scored])) + 1
        pieces, labels = [], []
        for rows in np.split(scored, borders):
            for start in range(0, len(rows), MOST_CHUNKS):
                pieces.append(self.margins[rows[start : start + MOST_CHUNKS]])
                labels.append(bool(self.chunks.is_virus[rows[0]]))
        return pieces, labels


def score_part(run: LabelledRun, part: int, models: ModelSet) -> HeldOut:
    """Score the records of one part with a model set's classifier, by the run's own functions."""
    found = [_score(run, part, partition, models) for partition in run.partitions()]
    frames, chunks = (pa.concat_tables(tables) for tables in zip(*found, strict=True))
    virus, others = (_numbers(chunks[name]) for name in ("score_virus", "score_others"))
    return HeldOut(
        frames=_level(run, frames, _numbers(frames["score_virus"])),
        chunks=_level(run, chunks, (1 + virus - others) / 2),  # as a contig's score counts it
        margins=margins(virus, others),
        supported=frames["supported"].to_numpy() if run.coding is not None else None,
        length_nt=run.length_nt,
    )


def call_part(run: LabelledRun, part: int, models: ModelSet, rule: CallRule) -> Level:
    """The records of one part as a run calls them by a contig model, that of ``rule``."""
    if rule.contig_model is None:
        raise ValueError("there is no contig model to call by")
    scores = GeneScores(run.length_nt, rule, rule.contig_model, reads_genes=False)
    for partition in run.partitions():
        here = np.flatnonzero(run.part[partition.record] == part)
        predictions = predict_frames(partition.frames.take(here), models)
        scores.add(call_chunks(partition.chunks, predictions), predictions)
    calls, records = scores.calls(), np.flatnonzero(run.part == part)
    chance = calls.probability[records]
    return Level(
        score=np.where(np.isnan(chance), calls.score[records], chance),
        called=calls.call[records] == VIRUS,
        is_virus=run.is_virus[records],
        record=records,
        length_nt=run.length_nt[records],
        probability=chance,
    )


def _score(
    run: LabelledRun, part: int, partition: PartitionFrames, models: ModelSet
) -> tuple[pa.Table, pa.Table]:
    """Frames and chunks of a partition that belong to ``part``, with scores and calls."""
    here = np.flatnonzero(run.part[partition.record] == part)
    predictions = predict_frames(partition.frames.take(here), models)
    chunks = call_chunks(partition.chunks, predictions)
    record = partition.record[here]
    row = predictions["chunk_row"].to_numpy()
    supported = np.ones(len(here), np.bool_)
    if run.coding is not None:
        supported = partition.supported(run.coding)[here]
    frames = pa.table(
        {
            "record_index": record,
            "start": partition.chunks["start"].take(row),
            "end": partition.chunks["end"].take(row),
            "call": predictions["label"],
            "score_virus": predictions["score_virus"],
            "supported": pa.array(supported),
        }
    )
    of_part = run.part[chunks["record_index"].to_numpy()] == part
    return frames, chunks.filter(pa.array(of_part))


def _level(run: LabelledRun, rows: pa.Table, score: Floats) -> Level:
    record = rows["record_index"].to_numpy()
    return Level(
        score=score,
        called=np.asarray(rows["call"].to_numpy(zero_copy_only=False) == VIRUS),
        is_virus=run.is_virus[record],
        record=record,
        length_nt=rows["end"].to_numpy() - rows["start"].to_numpy(),
    )


def _numbers(column: pa.ChunkedArray) -> Floats:
    """A column of scores; NaN where there is none."""
    numbers: Floats = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers
