from typing import NamedTuple

import numpy as np
import pyarrow as pa

from virnuc_dask.lab.fitting.frame_features import FrameSet, PartitionFrames
from virnuc_dask.lab.fitting.unseen_frames import score_unseen
from virnuc_dask.stages.predict import viral_logit
from virnuc_dask.tables.vectors import to_column

# Of each record: its fold; the last one is not used.
FOLD = np.array([1, 0, 1, -1], np.int8)
# Of each frame: its chunk in its partition.
ROWS = [[0, 0, 1, 2], [0, 1, 1]]
# Of each chunk: its record, and its number there.
CHUNKS = [[(0, 1), (0, 2), (1, 1)], [(2, 1), (3, 1)]]
STRAND = "FRFFRFF"


class Run(NamedTuple):
    """A run of two partitions; a frame's features are its number."""

    def partitions(self):
        first, frame = 0, 0
        for rows, chunks in zip(ROWS, CHUNKS, strict=True):
            number = np.arange(frame, frame + len(rows), dtype=np.float32)[:, None]
            columns = {
                "chunk_row": rows,
                "strand": list(STRAND[frame : frame + len(rows)]),
                "nucleotide": to_column(number, "float32"),
                "peptide": to_column(number, "float32"),
            }
            record, place = zip(*chunks, strict=True)
            of_chunks = pa.table({"record_index": record, "chunk_number": place})
            yield PartitionFrames(pa.table(columns), of_chunks, first)
            first, frame = first + len(chunks), frame + len(rows)


class Remembers:
    """Scores a frame by what it was taught: 0.9 of what it has seen, else 0.2."""

    def __init__(self, frames: FrameSet) -> None:
        self.seen = frames.values(np.arange(len(frames.is_virus)))[:, 0]

    def score(self, features):
        virus = np.where(np.isin(features[:, 0], self.seen), 0.9, 0.2)
        return np.stack([1 - virus, virus], axis=1).astype(np.float32)


def test_a_frame_is_scored_by_what_has_not_seen_its_fold():
    record = np.array([0, 0, 0, 1, 2])
    features = np.arange(5, dtype=np.float16)[:, None]
    training = FrameSet(features, record > 0, record, record)
    taught = []

    def learn(frames: FrameSet) -> Remembers:
        taught.append(Remembers(frames))
        return taught[-1]

    scored = score_unseen(Run(), training, FOLD, learn)
    assert [classifier.seen.tolist() for classifier in taught] == [[0, 1, 2, 4], [3]]
    assert scored.record.tolist() == [0, 0, 0, 1, 2]
    assert scored.chunk.tolist() == [0, 0, 1, 0, 0]
    assert scored.is_forward.tolist() == [True, False, True, True, False]
    unseen = viral_logit(np.float32([0.2]), np.float32([0.8]))[0]
    assert (scored.logit == unseen).all()
