"""Which frames a CDS annotation supports.

A frame is supported when its strand and its phase are those of a CDS and all its codons lie in it.
That is what the published training asks of a frame, by its peptide: to be part of an annotated
protein. Told by position it needs no protein, and a chance match elsewhere does not count.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.training.genbank import CodingSpan

Ints = NDArray[np.int64]


class FrameSpans(NamedTuple):
    """Where the codons of frames lie in their records; arrays of one length."""

    record: Ints
    start: Ints
    end: Ints
    is_reverse: NDArray[np.bool_]

    @classmethod
    def of_chunks(
        cls, record: Ints, chunk: tuple[Ints, Ints], is_reverse: NDArray[np.bool_], offset: Ints
    ) -> FrameSpans:
        """The frames at ``offset`` of chunks [start, end), codons that are skipped included."""
        first, last = chunk
        codons = np.maximum(last - first - offset, 0) // 3
        start = np.where(is_reverse, last - offset - 3 * codons, first + offset)
        return cls(record, start, start + 3 * codons, is_reverse)


class CodingSpans:
    """Gathers the coding spans of records: 25 bytes a span."""

    def __init__(self) -> None:
        self._record, self._start, self._end = array("q"), array("q"), array("q")
        self._is_reverse = array("b")

    def __len__(self) -> int:
        return len(self._record)

    def add(self, record: int, spans: Iterable[CodingSpan]) -> None:
        """Take in the spans of a record."""
        for span in spans:
            self._record.append(record)
            self._start.append(span.start)
            self._end.append(span.end)
            self._is_reverse.append(span.strand == "R")

    def arrays(self) -> FrameSpans:
        """All spans."""
        return FrameSpans(
            np.array(self._record, np.int64),
            np.array(self._start, np.int64),
            np.array(self._end, np.int64),
            np.array(self._is_reverse, np.bool_),
        )


class CodingIndex:
    """Looks up frames among the coding spans of records.

    Parameters
    ----------
    spans
        Whole codons each.
    length_nt
        Of all records.
    """

    def __init__(self, spans: FrameSpans, length_nt: Ints) -> None:
        # Records end to end: one number for a position.
        self._origin = np.cumsum(length_nt) - length_nt
        self.coding_nt = np.bincount(
            spans.record, weights=spans.end - spans.start, minlength=len(length_nt)
        )
        reading, start, end = self._placed(spans)
        self._merged = [
            _merge(start[reading == number], end[reading == number]) for number in range(6)
        ]

    def supports(self, frames: FrameSpans) -> NDArray[np.bool_]:
        """Which ``frames`` lie in a CDS of their strand and phase."""
        reading, start, end = self._placed(frames)
        supported = np.zeros(len(start), np.bool_)
        for number, (starts, ends) in enumerate(self._merged):
            here = np.flatnonzero(reading == number)
            place = np.searchsorted(starts, start[here], side="right") - 1
            inside = place >= 0
            inside[inside] = ends[place[inside]] >= end[here][inside]
            supported[here] = inside
        return supported

    def _placed(self, spans: FrameSpans) -> tuple[Ints, Ints, Ints]:
        """The reading (strand and phase, 0 to 5) of spans, and their place."""
        origin = self._origin[spans.record]
        return spans.start % 3 + 3 * spans.is_reverse, origin + spans.start, origin + spans.end


def _merge(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Spans of one reading, those that touch made one; ascending."""
    order = np.argsort(starts, kind="stable")
    starts, furthest = starts[order], np.maximum.accumulate(ends[order])
    begins = np.ones(len(starts), np.bool_)
    begins[1:] = starts[1:] > furthest[:-1]
    last = np.roll(begins, -1)  # a span begins after the last of those made one
    return starts[begins], furthest[last]
