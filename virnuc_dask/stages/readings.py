"""Long pieces of records → what a model set that reads genes embeds of them.

Genes where there are any. A record that is too short for one, and a piece in which none begins, go
by frames: cut into chunks by the published rule, whose stop-free frames are the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.modelsets.manifest import FRAMES, GENES
from virnuc_dask.sequences.chunks import Chunks, Pieces
from virnuc_dask.sequences.frames import Frame, find_frames
from virnuc_dask.sequences.genes import START_TYPES, GeneCaller, owned
from virnuc_dask.sequences.genes import Genes as FoundGenes
from virnuc_dask.tables import schemas

if TYPE_CHECKING:
    from virnuc_dask.modelsets.manifest import ModelSetInfo

IntArray = NDArray[np.int64]

_EDGE = START_TYPES.index("edge")
_SCORES = (
    *("confidence", "coding_score", "start_score", "rbs_score", "upstream_score", "type_score"),
)


class Readings(NamedTuple):
    """What is to be embedded: rows of `schemas.GENE_ROWS`, by piece, then by start; and texts."""

    names: pa.Table
    dna: list[str]
    peptides: list[str]


class _Places(NamedTuple):
    """Where rows lie: their pieces, and 0-based half-open places in their records."""

    piece: IntArray
    start: IntArray
    end: IntArray


def find_readings(
    pieces: pa.Table, info: ModelSetInfo, caller: GeneCaller, threads: int
) -> Readings:
    """What a model set reads in ``pieces``, rows of `schemas.PARTITION`.

    Neighbouring pieces overlap. A gene belongs to the piece in whose core it begins, so that it is
    one row however many pieces hold it; held by tests/stages/test_readings.py.
    """
    if info.genes is None:
        raise ValueError("the model set reads no genes")
    cut = Pieces(info.genes.piece_nt, info.genes.overlap_nt, info.genes.shortest_nt)
    sequences = pieces["sequence"].to_pylist()
    start, end = pieces["start"].to_numpy(), pieces["end"].to_numpy()
    genes, places = _own_genes(sequences, start, end, cut, caller, threads)
    core_start, core_end = cut.core(start, end)
    without = np.setdiff1d(np.arange(len(pieces)), places.piece)
    cores = _Places(without, core_start[without], core_end[without])
    frames, frame_places = _frames_of(sequences, start, cores, info.chunk_lengths[0])
    return _in_order(
        Readings(_gene_rows(pieces, genes, places), genes.dna, genes.peptides),
        Readings(
            _frame_rows(pieces, frames, frame_places),
            [frame.dna for frame in frames],
            [frame.peptide for frame in frames],
        ),
    )


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
    count = chunks.count(length_nt)
    of_core = np.repeat(np.arange(len(count)), count)
    step = np.arange(len(of_core)) - (np.cumsum(count) - count)[of_core]
    first, last = chunks.spans(length_nt[of_core], step)
    places = _Places(
        cores.piece[of_core], cores.start[of_core] + first, cores.start[of_core] + last
    )
    within = start[places.piece]
    spans = zip(
        places.piece.tolist(),
        (places.start - within).tolist(),
        (places.end - within).tolist(),
        strict=True,
    )
    found = find_frames([sequences[piece][first:last] for piece, first, last in spans])
    row = np.repeat(np.arange(len(found)), [len(frames) for frames in found])
    return [frame for frames in found for frame in frames], _Places(*(p[row] for p in places))


def _gene_rows(pieces: pa.Table, genes: FoundGenes, places: _Places) -> pa.Table:
    strand = pa.array(["-", "+"]).take(pa.array((genes.strand > 0).astype(np.int8)))
    ends = ["_gene_", _text(places.start + 1), "_", _text(places.end), "_", strand]
    columns = [
        *_names(pieces, places, ends),
        pa.array([GENES] * len(genes), pa.string()),
        *(pa.array(values) for values in places[1:]),
        strand,
        *(pa.array(values) for values in (genes.partial_left, genes.partial_right)),
        pa.array(START_TYPES).take(pa.array(genes.start_type)),
        *(pa.array(getattr(genes, name)) for name in ("rbs", "translation_table", "model")),
        *(pa.array(getattr(genes, name)) for name in _SCORES),
    ]
    return pa.table(columns, schema=schemas.GENE_ROWS)


def _frame_rows(pieces: pa.Table, frames: Sequence[Frame], places: _Places) -> pa.Table:
    """Rows of frames; what a gene caller would say is nothing, and zero."""
    rows = len(frames)
    suffix = pa.array([frame.suffix for frame in frames], pa.string())
    nothing = {
        field.name: pa.array(np.zeros(rows, field.type.to_pandas_dtype()))
        for field in schemas.GENE_ROWS
        if not pa.types.is_string(field.type)
    }
    columns = [
        *_names(pieces, places, ["_", _text(places.start + 1), "_", _text(places.end), suffix]),
        pa.array([FRAMES] * rows, pa.string()),
        *(pa.array(values) for values in places[1:]),
        pa.array(["+" if frame.strand == "F" else "-" for frame in frames], pa.string()),
        *(nothing[name] for name in ("partial_left", "partial_right")),
        pa.array([START_TYPES[_EDGE]] * rows, pa.string()),
        *(nothing[name] for name in ("rbs", "translation_table", "model", *_SCORES)),
    ]
    return pa.table(columns, schema=schemas.GENE_ROWS)


def _names(pieces: pa.Table, places: _Places, parts: Sequence[Any]) -> list[Any]:
    """The columns that say which row it is; its id is the record's with ``parts`` after it."""
    of_piece = pieces.select(["chunk_id", "record_id", "record_index"]).take(pa.array(places.piece))
    return [
        pc.binary_join_element_wise(of_piece["record_id"], *parts, ""),
        of_piece["chunk_id"],
        of_piece["record_id"],
        pa.array(places.piece, pa.int32()),
        of_piece["record_index"],
    ]


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
