"""Training frames, scored by classifiers that have not seen their groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun, PartitionFrames
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.stages.predict import viral_logit

Indices = NDArray[np.int64]


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

    Parameters
    ----------
    fold
        Of each record of the run, from 0; below 0 it is not scored.
    learn
        Makes a classifier of features as the encoders give them.
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
