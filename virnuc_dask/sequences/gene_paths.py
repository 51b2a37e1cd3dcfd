"""Of genes that may be, and overlap: those whose scores, and whose links, add up to most."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

_FURTHEST_OVERLAP, _FREE_OVERLAP = 60, 4  # nt
_NEAR = 150  # nt; genes further apart say nothing of each other


def genes_among(found: NDArray[np.void], link: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows of the candidates that are genes: of each sequence those of the best path."""
    edges = np.flatnonzero(np.diff(found["sequence"], prepend=-1, append=-2))
    names = ("start", "end", "strand", "score")
    start, end, strand, score = (found[name].tolist() for name in names)
    rows: list[int] = []
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        span = slice(first, last)
        path = best_path(start[span], end[span], strand[span], score[span], link.tolist())
        rows += [first + row for row in path]
    return np.array(rows, np.int64)


def best_path(
    start: list[int], end: list[int], strand: list[int], score: list[float], link: list[float]
) -> list[int]:
    """Rows whose scores, and whose links to the row before, add up to most; by their ends."""
    per_nt, same, other = link
    best: list[float] = []  # sum of the path that ends with a row
    before: list[int] = []
    leader: list[int] = []  # of a row and those before it, the one with the best path
    for row, begin in enumerate(start):
        far = bisect_right(end, begin - _NEAR, 0, row)
        previous = leader[far - 1] if far and best[leader[far - 1]] > 0 else -1
        value = best[previous] if previous >= 0 else 0.0
        for near in range(far, row):
            overlap = end[near] - begin
            if overlap > _FURTHEST_OVERLAP or start[near] >= begin or end[near] >= end[row]:
                continue
            step = best[near] - per_nt * max(0, overlap - _FREE_OVERLAP)
            step += same if strand[near] == strand[row] else other
            if step > value:
                value, previous = step, near
        best.append(score[row] + value)
        before.append(previous)
        leader.append(row if not row or best[row] > best[leader[-1]] else leader[-1])
    row = leader[-1] if best[leader[-1]] > 0 else -1
    path = []
    while row >= 0:
        path.append(row)
        row = before[row]
    return path[::-1]
