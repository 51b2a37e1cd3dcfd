from typing import NamedTuple

import numpy as np
import pyarrow as pa

from virnuc_dask.lab.fitting.frame_features import PartitionFrames, store_frames
from virnuc_dask.tables.vectors import to_column

RECORDS = 8  # of a partition: one chunk each, of two frames
PART = np.arange(2 * RECORDS) % 4 // 2  # training, training, validation, validation, ...
LABELS = np.arange(2 * RECORDS) % 2 == 0


class Run(NamedTuple):
    """Two partitions; the third feature of every frame is the same."""

    is_virus: np.ndarray
    part: np.ndarray

    def partitions(self):
        for number in range(2):
            features = values(number)
            columns = {
                "chunk_row": pa.array(np.arange(2 * RECORDS) // 2, pa.int32()),
                "nucleotide": to_column(features[:, :2], "float32"),
                "peptide": to_column(features[:, 2:], "float32"),
            }
            chunks = pa.table({"record_index": np.arange(RECORDS) + RECORDS * number})
            yield PartitionFrames(pa.table(columns), chunks, RECORDS * number)


def values(number: int) -> np.ndarray:
    drawn = np.random.default_rng(number).normal(3, 2, (2 * RECORDS, 3)).astype(np.float32)
    drawn[:, 2] = 7
    return drawn


def test_features_are_standardised_by_the_training_frames_and_constant_ones_kept(tmp_path):
    scaling, training, validation = store_frames(Run(LABELS, PART), tmp_path)
    record = np.repeat(np.arange(2 * RECORDS), 2)
    everything = np.concatenate([values(0), values(1)]).astype(np.float64)
    learned = everything[PART[record] == 0]
    np.testing.assert_allclose(scaling.mean, learned.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaling.deviation, [*learned.std(axis=0)[:2], 1], rtol=1e-12)
    for part, frames in enumerate((training, validation)):
        here = PART[record] == part
        assert frames.record.tolist() == frames.chunk.tolist() == record[here].tolist()
        assert frames.is_virus.tolist() == LABELS[record[here]].tolist()
        expected = (everything[here] - scaling.mean) / scaling.deviation
        np.testing.assert_allclose(frames.features, expected, atol=2e-3)
