"""What the evidence of all records of a run says of each: prevalence, and q-values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Floats, posterior, prevalence_of, rounded
from virnuc_dask.tables.on_disk import SortedRows

IntArray = NDArray[np.int64]

_EVIDENCE = pa.schema([("negated", pa.float64()), ("records", pa.int64())])
_WRITTEN = 10**6  # q-values are written with six decimals
_NEAR = 1e-6  # of a last decimal, from where it is rounded up


class Sample:
    """Records, of which only the evidence is looked at, and that is sorted on disk.

    Their q-values are `calibration.q_values`. Neighbours that are written alike, and stand on the
    same side of ``fdr``, share one, so that there are never many more than a million.

    Parameters
    ----------
    evidence
        Of all records, many at a time; NaN is left out.
    folder
        As of `SortedRows`.
    prevalence
        Where it is known; default: what the evidence suggests.
    """

    def __init__(
        self,
        evidence: Iterable[Floats],
        fdr: float | None = None,
        folder: Path | None = None,
        prevalence: float | None = None,
    ) -> None:
        counts: Counter[float] = Counter()
        rows = SortedRows(_EVIDENCE, folder)
        for values in (piece[~np.isnan(piece)] for piece in evidence):
            near, records = rounded(values)
            counts.update(dict(zip(near.tolist(), records.tolist(), strict=True)))
            distinct = np.unique(-values, return_counts=True)
            rows.add(pa.table(list(distinct), schema=_EVIDENCE))
        self.prevalence: float | None = None
        self._negated = self._q_value = np.empty(0)
        if counts:
            found = sorted(counts.items())
            values, records = (np.array(column) for column in zip(*found, strict=True))
            self.prevalence = prevalence or prevalence_of(values, records)
            self._negated, self._q_value = _steps(rows, self.prevalence, fdr)

    def q_values(self, evidence: Floats) -> Floats:
        """Of records of this sample; NaN stays NaN."""
        if self.prevalence is None:
            return evidence
        at = np.searchsorted(self._negated, -evidence, side="right") - 1
        q_value: Floats = np.where(np.isnan(evidence), np.nan, self._q_value[at])
        return q_value


def _steps(rows: SortedRows, prevalence: float, fdr: float | None) -> tuple[Floats, Floats]:
    """Negated evidence from which on a q-value holds, and that q-value; both ascend."""
    others, records, before = 0.0, 0, np.nan
    steps: list[tuple[Floats, Floats]] = []
    for negated, counts in _distinct(rows.merged()):
        # What was summed before is the first to be added: the same sums as of all at once.
        among = np.append(others, (1 - posterior(-negated, prevalence)) * counts)
        sums, numbers = np.cumsum(among)[1:], records + np.cumsum(counts)
        q_value = sums / numbers
        is_new = _differ(np.append(before, q_value), np.nan if fdr is None else fdr)
        steps.append((negated[is_new], q_value[is_new]))
        if len(q_value):
            others, records, before = sums[-1], numbers[-1], q_value[-1]
    at, q_value = (np.concatenate(column) for column in zip(*steps, strict=True))
    return at, q_value


def _distinct(pieces: Iterable[pa.Table]) -> Iterator[tuple[Floats, IntArray]]:
    """Sorted values and counts → each value once, with all its counts."""
    values, counts = np.empty(0), np.empty(0, np.int64)
    for piece in pieces:
        values = np.append(values, piece["negated"].to_numpy())
        counts = np.append(counts, piece["records"].to_numpy())
        first = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
        values, counts = values[first], np.add.reduceat(counts, first)
        yield values[:-1], counts[:-1]
        values, counts = values[-1:], counts[-1:]  # may go on in the next piece
    yield values, counts


def _differ(q_value: Floats, fdr: float) -> NDArray[np.bool_]:
    """Which q-values, but for the first, are not to be written as the one before."""
    decimals = q_value * _WRITTEN
    is_near = np.abs(decimals - np.floor(decimals) - 0.5) < _NEAR
    changed = np.diff(np.rint(decimals)) != 0
    crossed = np.diff(q_value <= fdr)
    differ: NDArray[np.bool_] = changed | crossed | is_near[1:] | is_near[:-1]
    return differ
