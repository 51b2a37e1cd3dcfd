"""Record → chunks of one length, by the published tool's overlap rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.sequences.records import Record

IntArray = NDArray[np.int64]
Lengths = TypeVar("Lengths", int, IntArray)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a record: ``sequence == record.dna[start:end]``, case as in the input."""

    id: str  # "contig9_chunk_2"
    record_id: str
    record_index: int
    number: int  # one-based, as in the id
    start: int
    end: int
    sequence: str


@dataclass(frozen=True, slots=True)
class Chunks:
    """Cuts records into chunks of one length by the published tool's rule."""

    length_nt: int

    @property
    def shortest_nt(self) -> int:
        """Records shorter than this are chunks shorter than they should be."""
        return self.length_nt

    def count(self, length_nt: Lengths) -> Lengths:
        """How many chunks records of these lengths have: none if they are empty."""
        return -(-length_nt // self.length_nt)

    def sizes(self, length_nt: int) -> Iterator[int]:
        """Lengths of the chunks of one record, in order."""
        return (end - start for start, end in chunk_spans(length_nt, self.length_nt))

    def spans(self, length_nt: IntArray, step: IntArray) -> tuple[IntArray, IntArray]:
        """Starts and ends of many chunks at once.

        All n = ⌈L/C⌉ chunks of a record are C long and their overlaps spread evenly, except that
        integer division can leave a last overlap unspent: then the last chunk is short (L=501,
        C=500 gives [0, 500) and [250, 501)). A record no longer than C is one chunk.

        Parameters
        ----------
        length_nt
            For each chunk, the length L of its record; not 0.
        step
            For each chunk, its place in its record, from 0.
        """
        count = self.count(length_nt)
        surplus = count * self.length_nt - length_nt
        overlap = surplus // count
        # Steps that overlap one base more.
        wider = np.minimum(surplus - overlap * (count - 1), count - 1)
        start = step * (self.length_nt - overlap) - np.minimum(step, wider)
        return start, np.minimum(start + self.length_nt, length_nt)


def chunk_spans(length_nt: int, chunk_length: int) -> Iterator[tuple[int, int]]:
    """Spans [start, end) of the chunks of one record, in order; see `Chunks.spans`."""
    chunks = Chunks(chunk_length)
    steps = np.arange(chunks.count(length_nt))
    starts, ends = chunks.spans(np.full_like(steps, length_nt), steps)
    return zip(starts.tolist(), ends.tolist(), strict=True)


def cut(record: Record, chunk_length: int) -> Iterator[Chunk]:
    """The chunks of one record, in order."""
    for number, (start, end) in enumerate(chunk_spans(len(record.dna), chunk_length), start=1):
        yield Chunk(
            id=f"{record.id}_chunk_{number}",
            record_id=record.id,
            record_index=record.index,
            number=number,
            start=start,
            end=end,
            sequence=record.dna[start:end],
        )
