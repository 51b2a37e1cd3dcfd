"""Which frames a CDS annotation supports.

A frame is supported when its strand and its phase are those of a CDS and all its codons lie in it.
That is what the published training asks of a frame, by its peptide: to be part of an annotated
protein. Told by position it needs no protein, and a chance match elsewhere does not count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
        # Records end to end, once for each reading: one number for a position.
        self._origin = np.cumsum(length_nt) - length_nt
        self._reading_nt = int(length_nt.sum()) + 1
        length = spans.end - spans.start
        self.coding_nt = np.bincount(spans.record, length, len(length_nt)).astype(np.int64)
        starts, ends = self._placed(spans)
        order = np.argsort(starts, kind="stable")
        # Before all others a span without a base, so that every place has one before it.
        starts = np.append(-1, starts[order])
        furthest = np.maximum.accumulate(np.append(-1, ends[order]))
        # Spans that touch are one: it ends before the next that does not.
        begins = np.append(True, starts[1:] > furthest[:-1])
        self._starts, self._ends = starts[begins], furthest[np.roll(begins, -1)]

    def supports(self, frames: FrameSpans) -> NDArray[np.bool_]:
        """Which ``frames`` lie in a CDS of their strand and phase."""
        start, end = self._placed(frames)
        supported: NDArray[np.bool_] = (
            self._ends[np.searchsorted(self._starts, start, side="right") - 1] >= end
        )
        return supported

    def _placed(self, spans: FrameSpans) -> tuple[Ints, Ints]:
        """Where spans begin and end among all positions of their reading: strand and phase."""
        reading = spans.start % 3 + 3 * spans.is_reverse
        origin = self._origin[spans.record] + reading * self._reading_nt
        return origin + spans.start, origin + spans.end
