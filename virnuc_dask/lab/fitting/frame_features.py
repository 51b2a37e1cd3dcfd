"""Feature tables → the frames to learn from, standardised, in memory maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError
from virnuc_dask.lab.fitting.options import PARTS, TRAINING, VALIDATION
from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import read_table
from virnuc_dask.tables.plan import Plan
from virnuc_dask.tables.vectors import from_column

Floats = NDArray[np.float64]

_CHUNK_COLUMNS = [name for name in schemas.PARTITION.names if name != "sequence"]

# What a half-precision number can hold; no standardised value of a training frame comes near it.
_LARGEST = 60_000


class Scaling(NamedTuple):
    """Mean and standard deviation of each feature over the training frames."""

    mean: Floats
    deviation: Floats


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Frames of one part of the data."""

    features: NDArray[np.float16]  # standardised, shape (frames, values)
    is_virus: NDArray[np.bool_]
    chunk: NDArray[np.int64]  # ascending; frames of one chunk stand together
    record: NDArray[np.int64]
    row: NDArray[np.int64] | None = None  # of ``features``, where not each is a frame of the set

    def values(self, frames: NDArray[np.int64]) -> NDArray[np.float16]:
        """The features of some frames, which may lie in a file."""
        return self.features[frames if self.row is None else self.row[frames]]

    def take(self, frames: NDArray[np.int64]) -> FrameSet:
        """Some frames of a set that has all."""
        columns = (self.is_virus[frames], self.chunk[frames], self.record[frames])
        return FrameSet(self.features, *columns, row=frames)


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """A run's tables, and what its records are; arrays are by record index."""

    plan: Plan
    is_virus: NDArray[np.bool_]
    length_nt: NDArray[np.int64]
    part: NDArray[np.int8]

    def partitions(self) -> Iterator[PartitionFrames]:
        """The frames of each partition."""
        first = 0
        for task in self.plan.tasks():
            folder = self.plan.folder
            chunks = read_table(folder.partition(task.index), task.content, _CHUNK_COLUMNS)
            frames = read_table(folder.features(task.index), task.features)
            yield PartitionFrames(frames, chunks, first)
            first += task.chunks


class PartitionFrames(NamedTuple):
    """Frames, their chunks, and the number of the first of these in the run."""

    frames: pa.Table
    chunks: pa.Table
    first_chunk: int

    @property
    def chunk_row(self) -> NDArray[np.int64]:
        """The row of each frame's chunk."""
        return np.asarray(self.frames["chunk_row"].to_numpy(), np.int64)

    @property
    def record(self) -> NDArray[np.int64]:
        """The record index of each frame."""
        return np.asarray(self.chunks["record_index"].to_numpy()[self.chunk_row])

    def of_records(self, chosen: NDArray[np.bool_]) -> PartitionFrames:
        """The chunks and frames of some records alone; ``chosen`` is by record index."""
        kept = chosen[self.chunks["record_index"].to_numpy()]
        frames = self.frames.filter(pa.array(kept[self.chunk_row]))
        row = (np.cumsum(kept) - 1)[frames["chunk_row"].to_numpy()]
        place = frames.schema.get_field_index("chunk_row")
        field = frames.schema.field(place)
        frames = frames.set_column(place, field, pa.array(row, field.type))
        return PartitionFrames(frames, self.chunks.filter(pa.array(kept)), self.first_chunk)

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of some frames: nucleotide embedding, then peptide embedding."""
        return np.hstack(
            [from_column(self.frames, name)[rows] for name in ("nucleotide", "peptide")]
        )


def store_frames(run: LabelledRun, folder: Path) -> tuple[Scaling, FrameSet, FrameSet]:
    """Standardise the frames of training and validation and lay them into ``folder``.

    Means and deviations are those of the training frames.

    `BadInputError` if a class has no frame in one of them.
    """
    scaling = _measure(run)
    training, validation = (_stored(run, part, scaling, folder) for part in (TRAINING, VALIDATION))
    return scaling, training, validation


def _measure(run: LabelledRun) -> Scaling:
    """Mean and deviation of the training frames; a feature that never changes stays as it is."""
    from sklearn.preprocessing import StandardScaler

    scaler, count = StandardScaler(), 0
    for frames in run.partitions():
        if len(rows := np.flatnonzero(run.part[frames.record] == TRAINING)):
            scaler.partial_fit(frames.values(rows).astype(np.float64))
            count += len(rows)
    if not count:
        raise BadInputError("no training record has an open frame to learn from.")
    mean, deviation = scaler.mean_, np.sqrt(scaler.var_)
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return Scaling(mean, np.where(constant, 1, deviation))


def _stored(run: LabelledRun, part: int, scaling: Scaling, folder: Path) -> FrameSet:
    path = folder / f"{PARTS[part]}.float16"
    record, chunk = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    with path.open("wb") as stream:
        for frames in run.partitions():
            rows = np.flatnonzero(run.part[frames.record] == part)
            scaled = (frames.values(rows) - scaling.mean) / scaling.deviation
            stream.write(scaled.clip(-_LARGEST, _LARGEST).astype(np.float16).tobytes())
            record.append(frames.record[rows])
            chunk.append(frames.first_chunk + frames.chunk_row[rows])
    of_record = np.concatenate(record)
    is_virus = run.is_virus[of_record]
    for name, side in (("virus", is_virus), ("others", ~is_virus)):
        if not side.any():
            raise BadInputError(
                f"{PARTS[part]}: no record of {name} has an open frame; add records."
            )
    features = np.memmap(path, np.float16, "r", shape=(len(is_virus), len(scaling.mean)))
    return FrameSet(features, is_virus, np.concatenate(chunk), of_record)
