from typing import NamedTuple

import numpy as np
import pyarrow as pa

from virnuc_dask import load_settings, run
from virnuc_dask.lab.fitting import held_out
from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun, PartitionFrames
from virnuc_dask.lab.fitting.held_out import score_part, score_unseen
from virnuc_dask.lab.fitting.options import TEST
from virnuc_dask.modelsets.calibration import margins
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.predict import viral_logit
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan
from virnuc_dask.tables.vectors import to_column


def test_scores_are_those_of_a_run(parity_dir, parity_modelset, tmp_path, monkeypatch):
    flags = {"model": str(parity_modelset), "partition_chunks": 24, "cluster.kind": "none"}
    settings = load_settings(flags=flags | {"cluster.threads": 1})
    done = run([parity_dir / "input.fa"], tmp_path / "out", settings=settings)
    plan = read_plan(RunFolder(tmp_path / "out"))
    records = plan.counts.records
    part = (np.arange(records) % 3).astype(np.int8)
    labelled = LabelledRun(plan, part == 0, np.zeros(records, np.int64), part)
    found = score_part(labelled, TEST, load_modelset(str(parity_modelset), device="cpu"))
    table = done.dataset("chunks").to_table().to_pandas()
    table = table[part[table["record_index"]] == TEST]
    expected = (1 + table["score_virus"].astype(float) - table["score_others"].astype(float)) / 2
    # Other frames beside a frame change its last bit.
    np.testing.assert_allclose(found.chunks().score, expected, rtol=1e-6)
    assert found.chunks().called.tolist() == (table["call"] == "virus").tolist()
    scored = table[table["call"].notna()]
    both = (scored[name].to_numpy() for name in ("score_virus", "score_others"))
    pieces, labels = found.pieces()
    np.testing.assert_allclose(np.concatenate(pieces), margins(*both), atol=1e-5)
    assert len(pieces) == len(labels) == scored["record_index"].nunique()
    monkeypatch.setattr(held_out, "MOST_CHUNKS", 2)  # longer records are several contigs
    shorter, _ = found.pieces()
    assert len(shorter) > len(pieces)
    assert max(map(len, shorter)) == 2
    np.testing.assert_array_equal(np.concatenate(shorter), np.concatenate(pieces))
    contigs = found.contigs(CallRule())
    means = 0.5 + (scored["score_virus"] - scored["score_others"]) / 2
    expected = means.groupby(scored["record_index"]).mean().reindex(np.flatnonzero(part == TEST))
    np.testing.assert_allclose(contigs.score, expected, rtol=1e-6)
    assert contigs.called.tolist() == (expected >= 0.5).tolist()
    assert contigs.probability is None


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
