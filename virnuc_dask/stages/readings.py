"""Chunks, or long pieces of records → what a model set embeds of them.

A set that reads frames takes the stop-free frames of its chunks. One that reads genes takes genes
where there are any. A record that is too short for one, and a piece in which none begins, go by
frames there too: cut into chunks by the published rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.modelsets.manifest import FRAMES, GENES
from virnuc_dask.sequences.chunks import Chunks, Pieces, places_of
from virnuc_dask.sequences.frames import Frame, find_frames
from virnuc_dask.sequences.genes import START_TYPES, GeneCaller, owned
from virnuc_dask.sequences.genes import Genes as FoundGenes
from virnuc_dask.tables import schemas

if TYPE_CHECKING:
    from virnuc_dask.modelsets.manifest import GenesSpec, ModelSetInfo

IntArray = NDArray[np.int64]


class Readings(NamedTuple):
    """What is to be embedded: rows that say which it is, by chunk, then by start; and texts."""

    names: pa.Table  # `schemas.FRAME_ROWS`, `schemas.GENE_ROWS`
    dna: list[str]
    peptides: list[str]


class _Places(NamedTuple):
    """Where rows lie: their pieces, and 0-based half-open places in their records."""

    piece: IntArray
    start: IntArray
    end: IntArray


def frame_readings(chunks: pa.Table) -> Readings:
    """The frames of ``chunks``, rows of `schemas.PARTITION`."""
    row, frames = _flat(find_frames(chunks["sequence"].to_pylist()))
    of_chunk = chunks.select(["chunk_id", "record_id"]).take(pa.array(row))
    suffixes = pa.array([frame.suffix for frame in frames], pa.string())
    columns = [
        pc.binary_join_element_wise(of_chunk["chunk_id"], suffixes, ""),
        *of_chunk.columns,
        pa.array(row, pa.int32()),
        pa.array([frame.strand for frame in frames], pa.string()),
        pa.array([frame.offset for frame in frames], pa.int8()),
    ]
    return _readings(pa.table(columns, schema=schemas.FRAME_ROWS), frames)


def pieces_of(genes: GenesSpec) -> Pieces:
    """The pieces that records are cut into by a model set that reads genes."""
    return Pieces(genes.piece_nt, genes.overlap_nt, genes.shortest_nt)


def find_readings(
    pieces: pa.Table, info: ModelSetInfo, caller: GeneCaller, threads: int
) -> Readings:
    """What a model set that reads genes reads in ``pieces``, rows of `schemas.PARTITION`.

    Neighbouring pieces overlap. A gene belongs to the piece in whose core it begins, so that it is
    one row however many pieces hold it; held by tests/stages/test_readings.py.
    """
    if info.genes is None:
        raise ValueError("the model set reads no genes")
    cut = pieces_of(info.genes)
    sequences = pieces["sequence"].to_pylist()
    start, end = pieces["start"].to_numpy(), pieces["end"].to_numpy()
    genes, places = _own_genes(sequences, start, end, cut, caller, threads)
    core_start, core_end = cut.core(start, end)
    without = np.setdiff1d(np.arange(len(pieces)), places.piece)
    cores = _Places(without, core_start[without], core_end[without])
    frames, frame_places = _frames_of(sequences, start, cores, info.chunk_lengths[0])
    return _in_order(
        Readings(_gene_rows(pieces, genes, places), genes.dna, genes.peptides),
        _readings(_frame_rows(pieces, frames, frame_places), frames),
    )


def _readings(names: pa.Table, frames: Sequence[Frame]) -> Readings:
    return Readings(names, [frame.dna for frame in frames], [frame.peptide for frame in frames])


def _flat(found: Sequence[list[Frame]]) -> tuple[IntArray, list[Frame]]:
    """Frames in one list, and for each the row of its chunk."""
    rows = np.repeat(np.arange(len(found)), [len(frames) for frames in found])
    return rows, [frame for frames in found for frame in frames]


def _own_genes(
    sequences: Sequence[str],
    start: IntArray,
    end: IntArray,
    cut: Pieces,
    caller: GeneCaller,
    threads: int,
) -> tuple[FoundGenes, _Places]:
    """The genes that begin in the core of the piece they were found in."""
    # A piece from a record's beginning tells the record's length, if that is below a piece's.
    searched = np.flatnonzero((start > 0) | (end >= cut.shortest_nt))
    found = caller.find([sequences[row] for row in searched.tolist()], threads)
    genes = found.take(np.flatnonzero(owned(found, cut, start[searched], end[searched])))
    piece = searched[genes.sequence]
    return genes, _Places(piece, genes.start + start[piece], genes.end + start[piece])


def _frames_of(
    sequences: Sequence[str], start: IntArray, cores: _Places, chunk_length: int
) -> tuple[list[Frame], _Places]:
    """The frames of the cores' chunks; start and end are those of the chunk."""
    length_nt, chunks = cores.end - cores.start, Chunks(chunk_length)
    of_core, step = places_of(chunks.count(length_nt))
    first, last = chunks.spans(length_nt[of_core], step)
    piece, core_start = cores.piece[of_core], cores.start[of_core]
    places = _Places(piece, core_start + first, core_start + last)
    within = start[piece]
    columns = (piece, places.start - within, places.end - within)
    spans = zip(*(column.tolist() for column in columns), strict=True)
    row, frames = _flat(find_frames([sequences[at][first:last] for at, first, last in spans]))
    return frames, _Places(*(place[row] for place in places))


def _gene_rows(pieces: pa.Table, genes: FoundGenes, places: _Places) -> pa.Table:
    strand = pa.array(["-", "+"]).take(pa.array((genes.strand > 0).astype(np.int8)))
    ends = ["_gene_", _text(places.start + 1), "_", _text(places.end), "_", strand]
    given = _names(pieces, places, ends) | {
        "reading": pa.array([GENES] * len(genes), pa.string()),
        "strand": strand,
        "start_type": pa.array(START_TYPES).take(pa.array(genes.start_type)),
    }
    others = [name for name in schemas.GENE_ROWS.names if name not in given]
    given |= {name: pa.array(getattr(genes, name)) for name in others}
    return schemas.filled(schemas.GENE_ROWS, given, len(genes))


def _frame_rows(pieces: pa.Table, frames: Sequence[Frame], places: _Places) -> pa.Table:
    """Rows of frames; what a gene caller would say is nothing, and zero."""
    suffix = pa.array([frame.suffix for frame in frames], pa.string())
    ends = ["_", _text(places.start + 1), "_", _text(places.end), suffix]
    strands = ["+" if frame.strand == "F" else "-" for frame in frames]
    given = _names(pieces, places, ends) | {
        "reading": pa.array([FRAMES] * len(frames), pa.string()),
        "strand": pa.array(strands, pa.string()),
        "start_type": pa.array(["edge"] * len(frames), pa.string()),
    }
    return schemas.filled(schemas.GENE_ROWS, given, len(frames))


def _names(pieces: pa.Table, places: _Places, parts: Sequence[Any]) -> dict[str, Any]:
    """The columns that say which row it is; its id is the record's with ``parts`` after it."""
    of_piece = pieces.select(["chunk_id", "record_id", "record_index"]).take(pa.array(places.piece))
    return {
        "frame_id": pc.binary_join_element_wise(of_piece["record_id"], *parts, ""),
        **{name: of_piece[name] for name in of_piece.column_names},
        "chunk_row": pa.array(places.piece, pa.int32()),
        "start": pa.array(places.start),
        "end": pa.array(places.end),
    }


def _text(numbers: IntArray) -> pa.StringArray:
    return pa.array(numbers).cast(pa.string())


def _in_order(genes: Readings, frames: Readings) -> Readings:
    """Both together, by piece: one has either genes or frames, in order already."""
    names = pa.concat_tables([genes.names, frames.names])
    order = np.argsort(names["chunk_row"].to_numpy(), kind="stable")
    dna, peptides = genes.dna + frames.dna, genes.peptides + frames.peptides
    rows = order.tolist()
    return Readings(
        names.take(pa.array(order)), [dna[row] for row in rows], [peptides[row] for row in rows]
    )
