import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.lab.fitting.held_out import ScoredFrames
from virnuc_dask.lab.frame_contigs import Drawn, Labelled, contigs_of, draw
from virnuc_dask.modelsets.contig_features import contig_features, feature_count
from virnuc_dask.modelsets.gene_sums import GeneColumns, GeneSums
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.stages.gene_calls import rows_of_frames
from virnuc_dask.tables import schemas

CHUNK_NT = 500


def records(length_nt, groups: int = 15, seed: int = 0) -> Labelled:
    """Records of these lengths, the first half viral, each half in so many groups."""
    count = len(length_nt)
    is_virus = np.arange(count) < count // 2
    group = np.arange(count) % groups + groups * is_virus
    fold = (group % 5).astype(np.int8)
    return Labelled(np.array(length_nt), is_virus, group, fold, CHUNK_NT)


def frames(of: Labelled, seed: int = 0, apart: float = 0.0) -> ScoredFrames:
    """None to three frames a chunk, one at least of a first; those of viruses ``apart`` higher."""
    rng = np.random.default_rng(seed)
    record = np.repeat(np.arange(len(of.length_nt)), of.chunks)
    chunk = np.concatenate([np.arange(n) for n in of.chunks])
    count = np.maximum(rng.integers(0, 4, len(record)), chunk == 0)
    record, chunk = np.repeat(record, count), np.repeat(chunk, count)
    logit = rng.normal(size=len(record)) + apart * of.is_virus[record]
    is_forward = rng.random(len(record)) < 0.5
    return ScoredFrames(record, chunk, is_forward, logit.astype(np.float32))


def as_a_run_has_it(of: Labelled, scored: ScoredFrames, record: int) -> np.ndarray:
    """The numbers that a run's contig model weighs of a whole record."""
    spans = list(chunk_spans(int(of.length_nt[record]), CHUNK_NT))
    chunks = pa.table(
        {
            "record_index": [0] * len(spans),
            "start": [start for start, _ in spans],
            "end": [end for _, end in spans],
        }
    )
    here = scored.record == record
    virus = 1 / (1 + np.exp(-scored.logit[here].astype(np.float64)))
    frame_id = [f"x{'F' if forward else 'R'}1" for forward in scored.is_forward[here]]
    text = ["x"] * len(frame_id)
    columns = [frame_id, text, text, scored.chunk[here], text, 1 - virus, virus]
    typed = [pa.array(c, f.type) for c, f in zip(columns, schemas.PREDICTIONS, strict=True)]
    rows = rows_of_frames(chunks, pa.table(typed, schema=schemas.PREDICTIONS))
    sums = GeneSums.of(GeneColumns.of(rows, np.zeros(0)), rows["record_index"].to_numpy())
    return contig_features(sums, of.length_nt[[record]].astype(np.float64))


@pytest.mark.parametrize("length_nt", [500, 501, 999, 1_000, 1_234, 7_777])
def test_a_contig_that_is_a_whole_record_counts_as_in_a_run(length_nt):
    of = records([3_000, length_nt])
    scored = frames(of)
    whole = Drawn(np.array([1]), np.array([0]), np.array([length_nt]))
    found = contigs_of(whole, scored, of, seed=1).features
    assert found.shape == (1, feature_count(1))
    np.testing.assert_allclose(found, as_a_run_has_it(of, scored, 1), rtol=1e-4, atol=1e-4)


def test_contigs_lie_within_used_records_and_their_lengths_are_even_by_logarithm():
    of = records([400, 700, 3_000, 30_000, 90_000] * 28, groups=14)
    of.fold[4] = -1
    drawn = draw(of, seed=1)
    assert drawn is not None
    assert (drawn.length_nt <= of.length_nt[drawn.record]).all()
    assert drawn.length_nt.min() >= CHUNK_NT
    assert drawn.length_nt.max() <= 40 * CHUNK_NT
    assert (drawn.chunk >= 0).all()
    assert 4 not in drawn.record
    starts = drawn.chunk * (of.length_nt / of.chunks)[drawn.record]
    assert (starts + drawn.length_nt < of.length_nt[drawn.record] + CHUNK_NT).all()
    middle = np.median(drawn.length_nt)
    assert middle == pytest.approx(np.sqrt(500 * 20_000), rel=0.05)
    again = draw(of, seed=1)
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))
