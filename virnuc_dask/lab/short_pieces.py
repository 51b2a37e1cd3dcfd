"""Fragments → frames of short pieces: what reads, and contigs without a gene, look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from virnuc_dask.lab.chances import draw_rows
from virnuc_dask.modelsets.gene_sums import GeneColumns
from virnuc_dask.sequences.frames import find_frames

LENGTHS_NT = (150, 500)  # drawn evenly on a scale of logarithms; a piece is one chunk
_BLOCK = 4096


def draw_frames(
    sequences: Path, chance: NDArray[np.float64], pieces: int, seed: int = 0
) -> pa.Table:
    """The frames of pieces of the fragments of ``sequences.parquet``, drawn with ``chance``.

    Columns are piece, fragment, length_nt, is_forward, dna, peptide; ordered by piece.
    """
    rng = np.random.default_rng(seed)
    fragment = np.sort(draw_rows(np.cumsum(chance), pieces, rng))
    shortest, longest = np.log(LENGTHS_NT).tolist()
    wanted = np.exp(rng.uniform(shortest, longest, pieces)).astype(np.int64)
    dna = pq.read_table(sequences, columns=["dna"])["dna"]
    blocks = []
    for first in range(0, pieces, _BLOCK):
        rows = fragment[first : first + _BLOCK]
        whole = dna.take(pa.array(rows)).to_pylist()
        lengths = wanted[first : first + _BLOCK].tolist()
        texts = [_cut(text, nt, rng) for text, nt in zip(whole, lengths, strict=True)]
        blocks.append(_frames(texts, rows, first))
    return pa.concat_tables(blocks)


def frame_columns(frames: pa.Table, evidence: NDArray[np.float32]) -> GeneColumns:
    """Frames of `draw_frames` as a run has them: place of their chunk, and no caller's word."""
    rows = len(frames)
    zero, false = np.zeros(rows, np.float32), np.zeros(rows, np.bool_)
    return GeneColumns(
        start=np.zeros(rows, np.int64),
        end=frames["length_nt"].to_numpy(),
        strand=np.where(frames["is_forward"].to_numpy(), 1, -1).astype(np.int8),
        is_partial=false,
        start_type=np.full(rows, "edge"),
        has_rbs=false,
        translation_table=zero.astype(np.int8),
        is_viral_model=false,
        confidence=zero,
        scores=np.zeros((rows, 5), np.float32),
        evidence=evidence,
    )


def _cut(text: str, length: int, rng: np.random.Generator) -> str:
    start = int(rng.integers(max(len(text) - length, 0) + 1))
    return text[start : start + length]


def _frames(texts: list[str], fragment: NDArray[np.int64], first: int) -> pa.Table:
    found = find_frames(texts)
    piece = np.repeat(np.arange(len(texts)), [len(frames) for frames in found])
    flat = [frame for frames in found for frame in frames]
    length = np.fromiter(map(len, texts), np.int64, len(texts))
    return pa.table(
        {
            "piece": piece + first,
            "fragment": fragment[piece],
            "length_nt": length[piece],
            "is_forward": pa.array([frame.strand == "F" for frame in flat], pa.bool_()),
            "dna": pa.array([frame.dna for frame in flat], pa.large_string()),
            "peptide": pa.array([frame.peptide for frame in flat], pa.large_string()),
        }
    )
