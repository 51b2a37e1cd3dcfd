"""Scores of the records that a classifier did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun, PartitionFrames
from virnuc_dask.lab.quality.figures import Flags, Floats
from virnuc_dask.lab.quality.scored import Scored, is_called
from virnuc_dask.modelsets.calibration import margins
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.modelset import ModelSet
from virnuc_dask.stages.calls import (
    UNSURE,
    VIRUS,
    VIRUS_REGION,
    CallRule,
    ContigCalls,
    ContigScores,
    RecordScores,
    call_chunks,
)
from virnuc_dask.stages.gene_calls import GeneScores
from virnuc_dask.stages.predict import predict_frames, viral_logit

# Longer records count as several contigs when a calibration is made.
MOST_CHUNKS = 100
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One part of a run, scored by the run's own functions; tables are by partition."""

    run: LabelledRun
    part: int
    chunks_of: Sequence[pa.Table]  # `schemas.CHUNKS`
    frames_of: Sequence[pa.Table]  # `schemas.PREDICTIONS`

    def chunks(self) -> Scored:
        """The part's chunks, in the order of the records."""
        table = pa.concat_tables(self.chunks_of)
        virus, others, start, end = (
            table[name].to_numpy() for name in ("score_virus", "score_others", "start", "end")
        )
        return Scored(
            score=(1 + virus.astype(np.float64) - others) / 2,  # as a record's score counts it
            called=is_called(table["call"], VIRUS),
            is_virus=self.run.is_virus[table["record_index"].to_numpy()],
            length_nt=end - start,
            unsure=np.zeros(len(table), np.bool_),
            region=np.zeros(len(table), np.bool_),
        )

    def contigs(self, rule: CallRule) -> Scored:
        """The part's records, as a run calls them."""
        run, model = self.run, rule.contig_model
        scores: RecordScores = ContigScores(len(run.part), rule)
        if model is not None:
            scores = GeneScores([run.length_nt], rule, model, reads_genes=False)
        for chunks, frames in zip(self.chunks_of, self.frames_of, strict=True):
            scores.add(chunks, frames)
        calls = ContigCalls.joined(scores.calls())
        records = np.flatnonzero(run.part == self.part)
        chance = calls.probability[records]
        return Scored(
            score=np.where(np.isnan(chance), calls.score[records], chance),
            called=calls.call[records] == VIRUS,
            is_virus=run.is_virus[records],
            length_nt=run.length_nt[records],
            unsure=calls.call[records] == UNSURE,
            region=calls.call[records] == VIRUS_REGION,
            probability=chance if rule.has_probability else None,
        )

    def pieces(self) -> tuple[list[Floats], Flags]:
        """Contigs to calibrate with: margins of up to `MOST_CHUNKS` scored chunks, and labels."""
        table = pa.concat_tables(self.chunks_of)
        table = table.filter(table["call"].is_valid())
        margin = margins(*(table[name].to_numpy() for name in ("score_virus", "score_others")))
        record = table["record_index"].to_numpy()
        place = np.arange(len(record)) - np.searchsorted(record, record)
        cuts = np.flatnonzero(place % MOST_CHUNKS == 0)
        return np.split(margin, cuts)[1:], self.run.is_virus[record[cuts]]


def score_part(run: LabelledRun, part: int, models: ModelSet) -> HeldOut:
    """Score the records of one part with a model set's classifier."""
    chunks_of, frames_of = [], []
    for partition in run.partitions():
        here = partition.of_records(run.part == part)
        frames_of.append(predict_frames(here.frames, models))
        chunks_of.append(call_chunks(here.chunks, frames_of[-1]))
    return HeldOut(run, part, chunks_of, frames_of)


@dataclass(frozen=True, slots=True)
class ScoredFrames:
    """Frames in the order of their records, chunks and places; arrays of one length."""

    record: Indices
    chunk: Indices  # of the record, from 0
    is_forward: NDArray[np.bool_]
    logit: NDArray[np.float32]  # `viral_logit`


def score_unseen(
    run: LabelledRun,
    training: FrameSet,
    fold: NDArray[np.int8],
    learn: Callable[[FrameSet], Classifier],
) -> ScoredFrames:
    """Score all frames of the records in a fold by what is learned from the other folds.

    ``fold`` is that of each record, from 0; those below 0 are not scored. ``learn`` makes
    a classifier of features as the encoders give them.
    """
    of_frame = fold[training.record]
    classifiers = [
        learn(training.take(np.flatnonzero((of_frame >= 0) & (of_frame != left_out))))
        for left_out in range(fold.max() + 1)
    ]
    found = [_scored(frames, fold, classifiers) for frames in run.partitions()]
    return ScoredFrames(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _scored(
    frames: PartitionFrames, fold: NDArray[np.int8], classifiers: Sequence[Classifier]
) -> tuple[Indices, Indices, NDArray[np.bool_], NDArray[np.float32]]:
    """The columns of `ScoredFrames` for a partition."""
    of_frame = fold[frames.record]
    logit = np.zeros(len(of_frame), np.float32)
    for number, classifier in enumerate(classifiers):
        if len(rows := np.flatnonzero(of_frame == number)):
            scores = classifier.score(frames.values(rows))
            logit[rows] = viral_logit(scores[:, 1], scores[:, 0])
    used = np.flatnonzero(of_frame >= 0)
    chunk = frames.chunks["chunk_number"].to_numpy()[frames.chunk_row[used]] - 1
    is_forward = np.asarray(frames.frames["strand"].to_numpy(zero_copy_only=False) == "F")
    return frames.record[used], chunk, is_forward[used], logit[used]
