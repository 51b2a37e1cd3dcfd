"""Regions of a whole run → their q-values, and what they say of their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.stages.calls import OTHERS, UNSURE, VIRUS_REGION, ContigCalls
from virnuc_dask.stages.sample import Sample
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import KeptRows

SURE_Q_VALUE = 0.01  # of a region for which a record is called `virus_region`
MOST_FRACTION = 0.9  # of such a record: what is viral from end to end is judged as a whole
_NEAREST = 1e-16  # a probability to 1
_WITH_Q_VALUE = schemas.REGIONS.append(pa.field("q_value", pa.float64()))


class Regions:
    """The regions of all records, in their order; they lie on disk, see `KeptRows`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder, self._kept = folder, KeptRows(schemas.REGIONS, folder)

    def add(self, regions: pa.Table) -> None:
        """Take in rows of `schemas.REGIONS`; all of them before the first is asked for."""
        self._kept.add(regions)

    def pieces(self) -> Iterator[pa.Table]:
        """All of them, many at a time, with their ``q_value``.

        It is the expected share of regions without a viral row among those that are no less
        probable: the mean of 1 - ``probability`` over them, see `calibration.q_values`.
        """
        for piece in self._kept.pieces():
            q_value = self._sample.q_values(_evidence(piece))
            yield piece.append_column("q_value", pa.array(q_value))

    @cached_property
    def _sample(self) -> Sample:
        # Probabilities are of the records as they are: no share of viruses is to be told first.
        pieces = (_evidence(piece) for piece in self._kept.pieces())
        return Sample(pieces, SURE_Q_VALUE, self._folder, prevalence=0.5)


def _evidence(regions: pa.Table) -> Floats:
    chance = np.minimum(regions["probability"].to_numpy(), 1 - _NEAREST)
    evidence: Floats = np.log(chance) - np.log1p(-chance)
    return evidence


def is_sure(regions: pa.Table) -> NDArray[np.bool_]:
    """Which of regions with q-values make a record a `VIRUS_REGION`, if it is no virus."""
    sure: NDArray[np.bool_] = regions["q_value"].to_numpy() <= SURE_Q_VALUE
    return sure


def beside(
    called: Iterable[tuple[pa.Table, ContigCalls]], regions: Regions
) -> Iterator[tuple[pa.Table, ContigCalls, pa.Table]]:
    """Records, their calls as `regarded`, and the regions that lie in them.

    ``called`` are rows of `schemas.RECORDS` with their calls, in order.
    """
    pieces = regions.pieces()
    held = next(pieces, None)
    for records, calls in called:
        last = records["record_index"][-1].as_py()
        found = list[pa.Table]()
        while held is not None:
            here = int(np.searchsorted(held["record_index"].to_numpy(), last, side="right"))
            found.append(held.slice(0, here))
            if here < len(held):
                held = held.slice(here)
                break
            held = next(pieces, None)
        of_records = pa.concat_tables([_WITH_Q_VALUE.empty_table(), *found])
        yield records, regarded(records, calls, of_records), of_records


def regarded(records: pa.Table, calls: ContigCalls, regions: pa.Table) -> ContigCalls:
    """Calls that know of the regions in their records.

    A record that is no virus as a whole is called `VIRUS_REGION` if one of its regions is sure, and
    they leave some of it. ``virus_fraction`` of a record that is read by genes is what they cover.
    """
    at = regions["record_index"].to_numpy() - records["record_index"][0].as_py()
    region_nt = regions["end"].to_numpy() - regions["start"].to_numpy()
    covered_nt = np.bincount(at, region_nt, len(records))
    fraction = covered_nt / np.maximum(records["length_nt"].to_numpy(), 1)
    holds_one = (np.bincount(at, is_sure(regions), len(records)) > 0) & (fraction <= MOST_FRACTION)
    holds_one &= np.isin(calls.call, (OTHERS, UNSURE))
    calls = replace(calls, call=np.where(holds_one, VIRUS_REGION, calls.call))
    if calls.basis is None:
        return calls
    if calls.rule.contig_model is None or calls.rule.contig_model.regions is None:
        fraction = np.full(len(records), np.nan)
    of_genes = calls.basis.genes > 0
    return replace(calls, virus_fraction=np.where(of_genes, fraction, calls.virus_fraction))
