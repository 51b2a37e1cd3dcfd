"""Sequences in memory, and in Dask's collections: each a run in a temporary folder.

The numbers are those of `run` because it is what computes them. The model set stays loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.cluster.journal import logger
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import BadInputError, LostRowsError, UsageError
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.modelsets.source import located
from virnuc_dask.outputs.finished_run import FrameKind, Run, as_frame
from virnuc_dask.run import run
from virnuc_dask.tables import schemas
from virnuc_dask.tables.vectors import from_column

Sequences = Mapping[str, str] | Iterable[Any]

_OF_FILES = ["description", "sample"]  # columns


@dataclass(frozen=True)
class Embeddings:
    """What the encoders make of sequences: a row a frame, or a gene of a set that reads genes."""

    rows: pa.Table  # which each is: frame_id, chunk_id, record_id, its place and strand
    nucleotide: NDArray[np.float32]  # (rows, dim): of its DNA
    peptide: NDArray[np.float32]  # (rows, dim): of its peptide


def score(
    sequences: Sequences,
    model: str | None = None,
    *,
    settings: Settings | None = None,
    kind: FrameKind = "pandas",
) -> Any:
    """Score a handful of sequences in this process, as ``contigs.parquet`` of a run has them.

    Without ``description`` and ``sample``, which are a file's.

    Parameters
    ----------
    sequences
        A mapping of ids to DNA; or DNA, pairs of id and DNA, or records of Biopython's, in any
        iterable. DNA without an id is called by its place, from 1.
    model, settings
        As for `run`; of ``settings.cluster`` only device and threads count.
    kind
        The frame to return, a row a sequence, in their order: ``pandas``, ``polars`` or ``arrow``.
        q-values, and with them the call ``virus_region``, are those among these sequences.

    Raises
    ------
    VirnucError
        If something is no DNA, or cannot be computed; or ``kind`` is not installed.
    """
    with _run_of(sequences, _alone(settings, model)) as finished:
        return as_frame(finished.contigs("arrow").drop_columns(_OF_FILES), kind)


def embed(
    sequences: Sequences, model: str | None = None, *, settings: Settings | None = None
) -> Embeddings:
    """Embed the frames, or genes, of a handful of sequences; as `score`."""
    settings = replace(_alone(settings, model), features=True)
    with _run_of(sequences, settings) as finished:
        table = finished.dataset("features").to_table()
    if not table.column_names:  # of nothing
        info = read_info(find(settings.model))
        sizes = info.nucleotide.dim, info.peptide.dim
        table = schemas.features(*sizes, genes=info.reads_genes).empty_table()
    vectors = (from_column(table, name) for name in ("nucleotide", "peptide"))
    return Embeddings(table.drop_columns(["chunk_row", "nucleotide", "peptide"]), *vectors)


def map_partitions(
    collection: Any,
    model: str | None = None,
    *,
    id_column: str = "record_id",
    sequence_column: str = "sequence",
    settings: Settings | None = None,
) -> Any:
    """Score the sequences of a Dask DataFrame, or Bag, partition by partition, lazily.

    Each worker process loads the model set once. What comes has the columns of `score` without
    ``q_value``, which needs all records (whether a call is ``virus_region`` rests on those of the
    partition): a row a sequence, with the index of the frame; of a Bag a dict a sequence.

    Parameters
    ----------
    collection
        A ``dask.dataframe`` with a column of ids and one of DNA; or a ``dask.bag`` of what `score`
        takes an iterable of, where DNA without an id is called by its place in the partition.
    model, settings
        As for `score`; a partition takes one thread unless ``settings.cluster.threads`` says more.

    `UsageError` if a column is not there, or ``settings.fdr`` asks for calls by q-values.
    """
    settings = _alone(settings, model, threads=1)
    if settings.fdr is not None:
        raise UsageError("map_partitions: calls up to a q-value need all records; use `run`.")
    if not hasattr(collection, "columns"):
        return collection.map_partitions(_score_bag, settings)
    columns = id_column, sequence_column
    if missing := [name for name in columns if name not in collection.columns]:
        raise UsageError(
            f"map_partitions: no column {', '.join(missing)}; name yours with id_column= and "
            "sequence_column=."
        )
    logger.disabled = True  # that there is no record needs no warning
    try:
        meta = _score_frame(collection._meta, *columns, settings)
    finally:
        logger.disabled = False
    return collection.map_partitions(_score_frame, *columns, settings, meta=meta)


def _score_frame(part: Any, ids: str, sequences: str, settings: Settings) -> Any:
    scored = score(zip(part[ids], part[sequences], strict=True), settings=settings)
    return scored.drop(columns="q_value").set_index(part.index)


def _score_bag(part: Sequences, settings: Settings) -> Any:
    return score(part, settings=settings, kind="arrow").drop_columns("q_value").to_pylist()


def _alone(settings: Settings | None, model: str | None, threads: int | None = None) -> Settings:
    """Settings of a run in this process, wherever that is, which keeps its calls alone."""
    settings = settings or Settings()
    device, threads = settings.cluster.device, settings.cluster.threads or threads
    return replace(
        settings,
        model=located(model or settings.model),
        cluster=ClusterSettings(kind="none", device=device, threads=threads),
        features=False,
        report=False,
    )


@contextmanager
def _run_of(sequences: Sequences, settings: Settings) -> Iterator[Run]:
    """A finished run of sequences, in a folder that goes with the block."""
    with TemporaryDirectory(prefix="virnuc-") as place:
        path = Path(place, "sequences.fasta")
        with path.open("w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.writelines(_fasta(sequences))
        finished = run(path, Path(place, "out"), settings=settings, keep_models=True)
        if finished.failures:
            reason = finished.failures[0].reason
            raise LostRowsError(f"the sequences cannot be computed: {reason}")
        yield finished


def _fasta(sequences: Sequences) -> Iterator[str]:
    """Each sequence as a record of a FASTA file, blanks within DNA left out."""
    if isinstance(sequences, str):
        raise UsageError("sequences: a single text; give a list of DNA. `run` reads files.")
    items = sequences.items() if isinstance(sequences, Mapping) else sequences
    name: Any
    dna: Any
    for number, item in enumerate(items, 1):
        match item:
            case str():
                name, dna = number, item
            case (name, dna):
                pass
            case _:
                name, dna = getattr(item, "id", ""), getattr(item, "seq", None)
        is_text = isinstance(dna, str) or hasattr(dna, "reverse_complement")  # Biopython's Seq
        if not is_text or ">" in dna:
            raise BadInputError(
                f"sequence {number} ({name}) is no DNA; give a text, a pair of id and text, or a "
                "record of Biopython's."
            )
        if len(str(name).split()) != 1:
            raise BadInputError(f"sequence {number}: an id has no blanks, and {name!r} cannot be.")
        yield f">{name}\n{''.join(str(dna).split())}\n"
