"""Record → chunks of one length, by the published tool's overlap rule; or long pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Lengths = TypeVar("Lengths", int, IntArray)


def chunk_spans(length_nt: int, chunk_length: int) -> Iterator[tuple[int, int]]:
    """Spans [start, end) of the chunks of one record, in order; see `Chunks.spans`."""
    steps = np.arange(-(-length_nt // chunk_length))
    starts, ends = Chunks(chunk_length).spans(np.full_like(steps, length_nt), steps)
    return zip(starts.tolist(), ends.tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Chunks:
    """Says how records are cut: into chunks of one length, by the published tool's rule."""

    length_nt: int

    @property
    def shortest_nt(self) -> int:
        """Shorter records are one chunk, shorter than it should be."""
        return self.length_nt

    def count(self, length_nt: Lengths) -> Lengths:
        """How many records of these lengths have: none if they are empty."""
        return -(-length_nt // self.length_nt)

    def sizes(self, length_nt: int) -> Iterator[int]:
        """Lengths of the chunks of one record, in order."""
        if 0 < length_nt <= self.length_nt:  # a read: many times as fast as arrays
            return iter((length_nt,))
        return (end - start for start, end in chunk_spans(length_nt, self.length_nt))

    def spans(self, length_nt: IntArray, step: IntArray) -> tuple[IntArray, IntArray]:
        """Starts and ends of chunks: of the lengths of their records, and their places there.

        All n = ⌈L/C⌉ chunks of a record are C long and their overlaps spread evenly, except that
        integer division can leave a last overlap unspent: then the last chunk is short (L=501,
        C=500 gives [0, 500) and [250, 501)). A record no longer than C is one chunk.
        """
        count = self.count(length_nt)
        surplus = count * self.length_nt - length_nt
        overlap = surplus // count
        # Steps that overlap one base more.
        wider = np.minimum(surplus - overlap * (count - 1), count - 1)
        start = step * (self.length_nt - overlap) - np.minimum(step, wider)
        return start, np.minimum(start + self.length_nt, length_nt)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Says how records are cut: into long pieces, of which neighbours overlap.

    Piece k begins at k * (length_nt - overlap_nt). The last one is the first that is shorter than
    ``length_nt``, so that a piece says by its length alone whether its record goes on: a record of
    exactly ``length_nt`` has two.
    """

    length_nt: int
    overlap_nt: int
    shortest_nt: int = 0  # shorter records are too short for a gene

    def __post_init__(self) -> None:
        if not 0 < self.overlap_nt < self.length_nt:
            raise ValueError(f"pieces of {self.length_nt} nt cannot share {self.overlap_nt} nt")

    @property
    def _stride_nt(self) -> int:
        return self.length_nt - self.overlap_nt

    def count(self, length_nt: Lengths) -> Lengths:
        """As of `Chunks`."""
        whole = (length_nt - self.overlap_nt) // self._stride_nt
        return whole * (length_nt >= self.length_nt) + (length_nt > 0)

    def sizes(self, length_nt: int) -> Iterator[int]:
        """As of `Chunks`."""
        for start in range(0, self.count(length_nt) * self._stride_nt, self._stride_nt):
            yield min(self.length_nt, length_nt - start)

    def spans(self, length_nt: IntArray, step: IntArray) -> tuple[IntArray, IntArray]:
        """As of `Chunks`."""
        start = step * self._stride_nt
        return start, np.minimum(start + self.length_nt, length_nt)

    def core(self, start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
        """Starts and ends of the cores of pieces [start, end): those of a record tile it.

        A core ends amid the overlap, where the next piece's begins.
        """
        half = self.overlap_nt // 2
        first = np.where(start == 0, 0, start + half)
        is_last = end - start < self.length_nt
        return first, np.where(is_last, end, end - self.overlap_nt + half)


def places_of(count: IntArray) -> tuple[IntArray, IntArray]:
    """Of all chunks of records that have so many each: the record's row, the place in it."""
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) - (np.cumsum(count) - count)[row]


def blocks_of(sequences: Iterable[str], nt: int) -> Iterator[list[str]]:
    """Neighbours, about ``nt`` letters together."""
    block: list[str] = []
    held = 0
    for dna in sequences:
        block.append(dna)
        held += len(dna)
        if held >= nt:
            yield block
            block, held = [], 0
    if block:
        yield block
