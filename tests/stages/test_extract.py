from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.modelsets.device_lock import DeviceClock, DeviceLock
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.stages.bad_chunks import ControlFailedError
from virnuc_dask.stages.extract import extract, extract_features
from virnuc_dask.stages.receipt import Stopwatch
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import count_rows, is_done, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask

# Six frames; none; four with an ambiguous base; none.
SEQUENCES = ["GCCGCCGCCGCCA", "TAATTAATTAATTAATTA", "gccgccNgccgccgcc", ""]


class LengthEncoder:
    """Embeds a text as its own length: enough to follow rows through a run."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.calls: list[list[str]] = []

    def tokenise(self, texts: Sequence[str]) -> Sequence[str]:
        return texts

    def embed_tokens(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        lengths = np.array([len(text) for text in texts], np.float32)
        return np.repeat(lengths, self.dim).reshape(-1, self.dim)


def partition_of(sequences: list[str]) -> pa.Table:
    """Chunks of records of one id, two a record."""
    rows = range(len(sequences))
    given = {
        "chunk_id": [f"twin_chunk_{row % 2 + 1}" for row in rows],
        "record_id": ["twin"] * len(sequences),
        "record_index": [row // 2 for row in rows],
        "sequence": sequences,
    }
    return schemas.filled(schemas.PARTITION, given, len(sequences))


class FourSeconds(DeviceClock):
    """Says of every computation that the device had nothing to do for so long before it."""

    def idle_s(self) -> float:
        return 4


@pytest.fixture
def models() -> SimpleNamespace:
    """A model set of two length encoders."""
    return SimpleNamespace(
        encoders=(LengthEncoder(3), LengthEncoder(2)),
        device_lock=DeviceLock(clock=FourSeconds()),
        memory_bytes=lambda: 5,
        caller=None,
    )


@pytest.fixture
def chunks() -> pa.Table:
    """A partition whose chunks are of two records with one id."""
    return partition_of(SEQUENCES)


@pytest.fixture
def task(tmp_path: Path, chunks: pa.Table) -> PartitionTask:
    """A partition that is written and waits for its features."""
    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    write_table(folder.partition(0), chunks, "content")
    return PartitionTask(
        folder, 0, len(chunks), "content", "features", "predictions", keep_features=True
    )


def test_every_frame_has_a_row_with_the_embeddings_of_its_own_dna_and_peptide(task, models, chunks):
    extract(task, models)
    expected = [
        {
            "frame_id": chunk["chunk_id"] + frame.suffix,
            "chunk_id": chunk["chunk_id"],
            "record_id": "twin",
            "chunk_row": row,
            "strand": frame.strand,
            "offset": frame.offset,
            "nucleotide": [len(frame.dna)] * 3,
            "peptide": [len(frame.peptide)] * 2,
        }
        for row, chunk in enumerate(chunks.to_pylist())
        for frame in find_frames([chunk["sequence"]])[0]
    ]
    assert read_table(task.features_path, task.features).to_pylist() == expected
    assert {row["chunk_row"] for row in expected} == {0, 2}
    assert len({tuple(row["nucleotide"]) for row in expected}) > 1


def test_the_receipt_counts_chunks_frames_and_texts_and_tells_time_and_memory(task, models):
    receipt = extract(task, models).receipt
    assert (receipt.partition, receipt.chunks) == (0, len(SEQUENCES))
    assert receipt.frames == count_rows(task.features_path) > 0
    assert (receipt.memory_before_bytes, receipt.memory_after_bytes) == (5, 5)
    assert receipt.device_idle_s == 8, "before each encoder"
    steps = {"read", "frames", "tokenise", "wait", "nucleotide", "peptide", "write"}
    assert set(receipt.elapsed_s) == steps
    (nucleotide,), (peptide,) = (encoder.calls for encoder in models.encoders)
    counts = {"nucleotide": len(nucleotide), "peptide": len(peptide)}
    assert receipt.embedded == {"frames": receipt.frames, **counts}


def test_each_distinct_text_is_embedded_once_and_counted(models):
    sequences = [*SEQUENCES, SEQUENCES[0], "GCCGCCGCCGCC"]
    frames = [frame for found in find_frames(sequences) for frame in found]
    watch = Stopwatch()
    assert len(extract_features(partition_of(sequences), models, watch)) == len(frames)
    distinct = [{frame.dna for frame in frames}, {frame.peptide for frame in frames}]
    given = [encoder.calls[0] for encoder in models.encoders]
    assert [sorted(texts) for texts in given] == [sorted(texts) for texts in distinct]
    counts = {"frames": len(frames), "nucleotide": len(given[0]), "peptide": len(given[1])}
    assert watch.embedded == counts
    assert counts["peptide"] < counts["nucleotide"] < counts["frames"]


def test_a_feature_table_that_is_there_is_taken_as_it_is(task, models):
    first = extract(task, models).receipt
    before = task.features_path.stat().st_mtime_ns
    again = extract(task, models)
    second = again.receipt
    assert again.features is None, "it is to be read"
    assert [len(encoder.calls) for encoder in models.encoders] == [1, 1]
    assert task.features_path.stat().st_mtime_ns == before
    assert (second.frames, second.embedded) == (first.frames, {})


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"chunks": 5}, LostRowsError, "partition 0 has 4 chunks, 5 were planned"),
        ({"content": "other content"}, BadTableError, "part-00000"),
    ],
)
def test_a_partition_that_is_not_as_planned_is_refused(task, models, change, error, told):
    with pytest.raises(error, match=told):
        extract(replace(task, **change), models)
    assert not task.features_path.exists()


def test_an_encoder_that_loses_a_row_is_an_error_and_leaves_no_table(task, models):
    class Forgetful(LengthEncoder):
        def embed_tokens(self, texts: Sequence[str]) -> np.ndarray:
            return super().embed_tokens(texts)[1:]

    models.encoders = (LengthEncoder(3), Forgetful(2))
    with pytest.raises(LostRowsError, match="encoder was given 12 texts and embedded 11"):
        extract(task, models)
    assert not task.features_path.exists()


def test_chunks_without_a_frame_make_an_empty_table_of_the_right_columns(models, chunks):
    table = extract_features(chunks.slice(1, 1), models, Stopwatch())
    assert len(table) == 0
    assert table.schema == schemas.features(3, 2)


class Picky(LengthEncoder):
    """Fails on texts that hold ``bad``."""

    def __init__(self, dim: int, bad: str, error: Exception | None = None) -> None:
        super().__init__(dim)
        self.bad, self.error = bad, error

    def embed_tokens(self, texts: Sequence[str]) -> np.ndarray:
        embeddings = super().embed_tokens(texts)
        is_bad = [self.bad in text for text in texts]
        if self.error is not None and any(is_bad):
            raise self.error
        embeddings[is_bad] = np.nan
        return embeddings


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError(), None], ids=str)
def test_a_chunk_that_cannot_be_embedded_is_named_and_left_out(task, models, error):
    models.encoders = Picky(3, "GCCGCCNGCC", error), LengthEncoder(2)
    extracted = extract(task, models)
    (failure,) = extracted.receipt.failures
    assert (failure.partition, failure.rows) == (0, (2, 3))
    assert failure.reason.startswith(type(error or LostRowsError("")).__name__)
    assert (error is not None) or "its embedding is not finite" in failure.reason
    assert extracted.receipt.chunks == len(SEQUENCES) - 1
    assert set(extracted.features["chunk_row"].to_pylist()) == {0}
    assert not is_done(task.features_path, task.features)
    lacking = task.lacking(extracted.receipt.failed_rows)
    assert read_table(task.features_path, lacking.features).equals(extracted.features)


def test_where_nothing_can_be_embedded_another_partition_tells_whose_fault_it_is(task, models):
    other = replace(task, index=1, chunks=1)
    write_table(other.folder.partition(1), partition_of(["ACA" * 6]), "content")
    predict_rows = pa.table({"chunk_row": pa.array([0], pa.int32())})
    write_table(other.predictions_path, predict_rows, other.predictions)
    controlled = replace(task, control=other)
    models.encoders = Picky(3, "GCCG", RuntimeError("no")), LengthEncoder(2)
    assert len(extract(controlled, models).receipt.failures) == len(SEQUENCES) - 2
    for error in (RuntimeError("no"), None):  # None: embeddings that are not finite
        models.encoders = Picky(3, "", error), LengthEncoder(2)
        with pytest.raises(ControlFailedError):
            extract(controlled, models)
    with pytest.raises(LostRowsError, match="not finite"):
        extract(task, models)
