"""Partition → feature table: chunks to frames or genes, these to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.sequences.frames import IntArray, find_frames
from virnuc_dask.stages.bad_chunks import compute_chunks
from virnuc_dask.stages.readings import find_readings, frame_readings
from virnuc_dask.stages.receipt import Extracted, Failure, Receipt, Stopwatch
from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import count_rows, is_done, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask, Rows
from virnuc_dask.tables.vectors import from_column, to_column

if TYPE_CHECKING:
    from virnuc_dask.modelsets.device_lock import DeviceUse
    from virnuc_dask.modelsets.modelset import ModelSet


def extract(task: PartitionTask, models: ModelSet) -> Extracted:
    """Make a partition's feature table, unless it is there already.

    It is written if it is to be kept, and handed on to `predict` in any case. Chunks that cannot
    be computed are missing from it, and named in the receipt; errors as of `compute_chunks`, if
    none can. `LostRowsError` if the partition does not hold the chunks that were planned.
    """
    before, watch = models.memory_bytes(), Stopwatch()
    features: pa.Table | None = None
    failures: tuple[Failure, ...] = ()
    frames = 0
    if is_done(task.features_path, task.features):
        frames = count_rows(task.features_path)
    else:
        features, failures = _compute(task, models, watch)
    receipt = Receipt(
        partition=task.index,
        chunks=task.chunks - sum(failure.chunks for failure in failures),
        frames=frames if features is None else len(features),
        memory_before_bytes=before,
        memory_after_bytes=models.memory_bytes(),
        elapsed_s=watch.elapsed_s,
        device_idle_s=watch.device_idle_s,
        embedded=watch.embedded,
        failures=failures,
    )
    if features is not None and task.keep_features:
        with watch.time("write"):
            lacking = task.lacking(receipt.failed_rows)
            write_table(task.features_path, features, lacking.features)
    return Extracted(receipt, features)


def _compute(
    task: PartitionTask, models: ModelSet, watch: Stopwatch
) -> tuple[pa.Table | None, tuple[Failure, ...]]:
    """The features of all chunks of a partition that can be computed, and those that cannot."""
    with watch.time("read"):
        chunks = read_table(task.folder.partition(task.index), task.content)
    if len(chunks) != task.chunks:
        raise LostRowsError(
            f"partition {task.index} has {len(chunks)} chunks, {task.chunks} were planned."
        )

    def compute_some(some: pa.Table) -> pa.Table:
        features = extract_features(some, models, watch, task.features_dtype)
        for name in ("nucleotide", "peptide"):
            require_finite(from_column(features, name), features)
        return features

    def compute(rows: Rows) -> pa.Table:
        return _rows_from(rows[0], compute_some(chunks.slice(rows[0], rows[1] - rows[0])))

    chunk = None if task.control is None else _control_chunk(task.control)
    control = None if chunk is None else partial(compute_some, chunk)
    return compute_chunks(task, compute, control, lambda: _rows_with_frames(chunks))


def _control_chunk(control: PartitionTask) -> pa.Table | None:
    """A chunk of a partition that was computed, as a table; None if none of them has a row."""
    predictions = read_table(control.predictions_path, control.predictions, ["chunk_row"])
    if not len(predictions):
        return None
    chunks = read_table(control.folder.partition(control.index), control.content)
    return chunks.slice(predictions["chunk_row"][0].as_py(), 1)


def _rows_with_frames(chunks: pa.Table) -> list[int]:
    """Rows of chunks that something is computed of; all, if there are none."""
    found = find_frames(chunks["sequence"].to_pylist())
    return [row for row, frames in enumerate(found) if frames] or list(range(len(chunks)))


def require_finite(values: NDArray[np.float32], features: pa.Table) -> None:
    """`LostRowsError` naming the first of ``features`` whose ``values`` are not all finite."""
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        frame = features["frame_id"][int(np.argmin(finite))]
        raise LostRowsError(f"frame {frame} has no score: its embedding is not finite.")


def extract_features(
    chunks: pa.Table, models: ModelSet, watch: Stopwatch, dtype: str = "float32"
) -> pa.Table:
    """The frames of ``chunks`` with both embeddings, in frame order; or the genes of pieces.

    Frames whose DNA, or whose peptide, is the same are embedded once: reads of a metagenome
    repeat, and so do the domains of a genome.

    Parameters
    ----------
    chunks
        Rows of `schemas.PARTITION`; of a model set that reads genes, pieces.
    watch
        Takes the seconds of each step, the frames, and how many texts each encoder was given.
    dtype
        Of the stored embeddings: `float32` or `float16`.

    Returns
    -------
    pyarrow.Table
        Rows of `schemas.features`.

    Raises
    ------
    LostRowsError
        If an encoder gives back another number of embeddings than it was given texts.
    """
    caller = models.caller
    with models.device_lock.partition() as use:
        if caller is None:
            with watch.time("frames"):
                found = frame_readings(chunks)
        else:
            with watch.time("genes"):
                found = find_readings(chunks, models.info, caller, models.threads)
        dna, peptides = _embed(found.dna, found.peptides, models, use, watch)
    schema = schemas.features(dna.shape[1], peptides.shape[1], dtype, genes=caller is not None)
    vectors = [to_column(dna, dtype), to_column(peptides, dtype)]
    return pa.table([*found.names.columns, *vectors], schema=schema)


def _embed(
    dna: Sequence[str], peptides: Sequence[str], models: ModelSet, use: DeviceUse, watch: Stopwatch
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both embeddings of many texts, each distinct one embedded once."""
    if models.encoders is None:
        raise ValueError("extracting features needs a model set with its encoders loaded")
    nucleotide, peptide = models.encoders
    with watch.time("tokenise"):
        dna_texts, dna_rows = _distinct(dna)
        peptide_texts, peptide_rows = _distinct(peptides)
        dna_tokens = nucleotide.tokenise(dna_texts)
        peptide_tokens = peptide.tokenise(peptide_texts)
    with use.computing("nucleotide"), watch.time("nucleotide"):
        dna_embeddings = nucleotide.embed_tokens(dna_tokens)
    with use.computing("peptide"), watch.time("peptide"):
        peptide_embeddings = peptide.embed_tokens(peptide_tokens)
    texts = {"nucleotide": len(dna_texts), "peptide": len(peptide_texts)}
    watch.add(use.waited_s, use.device_idle_s, frames=len(dna), **texts)
    return _spread(dna_embeddings, dna_rows), _spread(peptide_embeddings, peptide_rows)


def _distinct(texts: Sequence[str]) -> tuple[list[str], IntArray]:
    """The distinct texts, in the order of their first places, and for each text its row there."""
    place: dict[str, int] = {}
    rows = np.array([place.setdefault(text, len(place)) for text in texts], np.int64)
    return list(place), rows


def _spread(embeddings: NDArray[np.float32], rows: IntArray) -> NDArray[np.float32]:
    """Embeddings of distinct texts → of all texts."""
    distinct = int(rows.max(initial=-1)) + 1
    if len(embeddings) != distinct:
        raise LostRowsError(
            f"an encoder was given {distinct} texts and embedded {len(embeddings)}."
        )
    return embeddings if distinct == len(rows) else embeddings[rows]


def _rows_from(first_row: int, features: pa.Table) -> pa.Table:
    """Features of some chunks, numbered by the rows of the whole partition."""
    if not first_row:
        return features
    column = features.schema.get_field_index("chunk_row")
    rows = pc.add(features["chunk_row"], pa.scalar(first_row, pa.int32()))
    return features.set_column(column, features.schema.field(column), rows)
