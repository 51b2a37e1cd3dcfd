"""Where the marks of a report's plots lie, in percent of a plot; the template draws them as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.outputs.report.contigs import Digest, floats
from virnuc_dask.stages.calls import CallRule

_LONGEST_ID = 80
_CURVE = 60  # points of the threshold by length
_WIDE = 15  # the longest record so many times the shortest: a tick a power of ten


@dataclass(frozen=True)
class Scatter:
    """Length, to the right, against what calls go by, from 0 at the bottom to 1."""

    dots: list[tuple[float, float, str, str]]  # from left, from top, call, id and numbers
    ticks: list[tuple[float, str]]  # of lengths
    threshold: list[tuple[float, float]]  # a curve, from left and from top; none with an FDR


def called_from(digest: Digest, rule: CallRule) -> tuple[float, float] | None:
    """The values from which on records are virus, of the longest and of the shortest ones."""
    if rule.fdr is not None:
        found = digest.lowest_virus
        return (found, found) if found < np.inf else None
    heights = _heights(digest, rule)
    return float(heights.min()), float(heights.max())


def scatter(digest: Digest, rule: CallRule) -> Scatter:
    """The records that were drawn, the least viral first, so that viruses lie on top."""
    lengths, tables = _lengths(digest), digest.drawn.values()
    if not any(map(len, tables)):
        return Scatter([], [], [])
    some = pa.concat_tables(tables)
    some = some.take(np.argsort(floats(some, "value"), kind="stable"))
    columns = (some[name].to_pylist() for name in ("record_id", "call", "length_nt", "value"))
    left = _left(some["length_nt"].to_numpy(), lengths)
    dots = [
        (
            *(round(x, 2), round(100 - 100 * value, 2), call),
            f"{record_id[:_LONGEST_ID]}: {call}, {length:,} nt, {digest.by} {value:.3f}",
        )
        for x, record_id, call, length, value in zip(left, *columns, strict=True)
    ]
    curve = np.stack([_left(lengths, lengths), 100 - 100 * _heights(digest, rule)], axis=1)
    threshold = [] if rule.fdr is not None else [(x, y) for x, y in curve.round(2).tolist()]
    return Scatter(dots, _ticks(lengths), threshold)


def _lengths(digest: Digest) -> Floats:
    """Lengths along the axis, in nt; a little more than the records have."""
    shortest = min(max(digest.shortest_nt, 1), digest.longest_nt)
    lengths: Floats = np.geomspace(shortest / 1.1, digest.longest_nt * 1.1, _CURVE)
    return lengths


def _heights(digest: Digest, rule: CallRule) -> Floats:
    lengths = _lengths(digest)
    return rule.threshold(lengths) if rule.contig_model else np.full(len(lengths), 0.5)


def _left(length_nt: Floats | np.ndarray, lengths: Floats) -> Floats:
    place = np.log(np.maximum(length_nt, 1) / lengths[0]) / np.log(lengths[-1] / lengths[0])
    found: Floats = 100 * place.clip(0, 1)
    return found


def _ticks(lengths: Floats) -> list[tuple[float, str]]:
    least, most = lengths[0], lengths[-1]
    steps = (1,) if most / least > _WIDE else (1, 2, 5)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ticks = [step * 10**power for power in powers for step in steps]
    shown = [tick for tick in ticks if least <= tick <= most]
    if len(shown) < 2:  # all records are about as long
        shown = sorted({round(lengths[1]), round(lengths[-2])})
    return [(round(float(_left(np.array(nt), lengths)), 2), _length(nt)) for nt in shown]


def _length(nt: float) -> str:
    for size, unit in ((1_000_000, "Mb"), (1_000, "kb")):
        if nt >= size and nt % (size // 10) == 0:
            return f"{nt / size:,g} {unit}"
    return f"{nt:,} nt"
