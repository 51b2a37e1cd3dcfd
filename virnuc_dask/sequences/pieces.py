"""Record → long overlapping pieces, in whose cores every gene is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from virnuc_dask.sequences.chunks import IntArray, Lengths
from virnuc_dask.sequences.genes import BoolArray, Genes


@dataclass(frozen=True, slots=True)
class Pieces:
    """Cuts records into pieces of ``length_nt``, neighbours overlapping by ``overlap_nt``.

    Piece k begins at k * (length_nt - overlap_nt). The last one is the first that is shorter than
    ``length_nt``, so that a piece says by its length alone whether its record goes on: a record of
    exactly ``length_nt`` has two.
    """

    length_nt: int
    overlap_nt: int
    shortest_nt: int = 0  # shorter records are not read by genes

    def __post_init__(self) -> None:
        if not 0 < self.overlap_nt < self.length_nt:
            raise ValueError(f"pieces of {self.length_nt} nt cannot share {self.overlap_nt} nt")

    @property
    def stride_nt(self) -> int:
        """From one piece's begin to the next one's."""
        return self.length_nt - self.overlap_nt

    def count(self, length_nt: Lengths) -> Lengths:
        """How many pieces records of these lengths have: none if they are empty."""
        whole = (length_nt - self.overlap_nt) // self.stride_nt
        return whole * (length_nt >= self.length_nt) + (length_nt > 0)

    def spans(self, length_nt: IntArray, step: IntArray) -> tuple[IntArray, IntArray]:
        """Starts and ends of many pieces at once; see `Chunks.spans`."""
        start = step * self.stride_nt
        return start, np.minimum(start + self.length_nt, length_nt)

    def sizes(self, length_nt: int) -> Iterator[int]:
        """Lengths of the pieces of one record, in order."""
        for start in range(0, self.count(length_nt) * self.stride_nt, self.stride_nt):
            yield min(self.length_nt, length_nt - start)

    def is_last(self, start: IntArray, end: IntArray) -> BoolArray:
        """Whether pieces [start, end) are the last of their records."""
        return end - start < self.length_nt

    def cores(self, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """Starts and ends of the cores of pieces [start, end): those of a record tile it.

        A core ends amid the overlap, where the next piece's begins.
        """
        half = self.overlap_nt // 2
        begin = np.where(start == 0, 0, start + half)
        return begin, np.where(self.is_last(start, end), end, end - (self.overlap_nt - half))


def owned(genes: Genes, pieces: Pieces, start: IntArray, end: IntArray) -> BoolArray:
    """Which genes belong to the piece in which they were found: a gene's first base is in its core.

    Parameters
    ----------
    genes
        Of the DNA of pieces [start, end) of records: ``genes.sequence`` counts these pieces.
    """
    first, last = pieces.cores(start, end)
    begin = start[genes.sequence] + genes.start
    return (first[genes.sequence] <= begin) & (begin < last[genes.sequence])
