"""Regions of a whole run → their q-values, and what they say of their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.modelsets.region_model import RegionModel
from virnuc_dask.stages.calls import OTHERS, UNSURE, VIRUS, VIRUS_REGION, ContigCalls
from virnuc_dask.stages.sample import Sample
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import KeptRows

# Of a region for which a record is called `virus_region`: where the model knows how many regions
# are false, and where their own probabilities have to say it, which promise too much.
SURE_Q_VALUE, SURE_BY_PROBABILITY = 0.1, 0.01
MOST_FRACTION = 0.9  # of such a record: what is viral from end to end is judged as a whole
_NEAREST = 1e-16  # a probability to 1
_JUDGED = pa.schema([*schemas.REGIONS, ("q_value", pa.float64()), ("is_sure", pa.bool_())])


class Regions:
    """The regions of all records, in their order; they lie on disk, see `KeptRows`.

    ``model`` is that of genes' regions, if there is one.
    """

    def __init__(self, folder: Path | None = None, model: RegionModel | None = None) -> None:
        self._folder, self._kept = folder, KeptRows(schemas.REGIONS, folder)
        self._model = model if model is not None and model.false_rates.size else None
        self._q_values: Floats = np.empty(0)  # by the model's knot

    def add(self, regions: pa.Table) -> None:
        """Take in rows of `schemas.REGIONS`; all of them before the first is asked for."""
        self._kept.add(regions)

    def compare(self, called: Iterable[tuple[pa.Table, ContigCalls]]) -> None:
        """Learn how much DNA is in records that are no viruses, and which regions lie there.

        Those in viruses are left out: they are true by that call, and say nothing of the others.

        Parameters
        ----------
        called
            Rows of all records, with their ``length_nt``, and their calls, in order; after all
            regions were added. Nothing of it is asked for where the model has no rates.
        """
        if self._model is None:
            return
        length_nt, is_virus = 0, [np.empty(0, np.bool_)]
        for records, calls in called:
            is_virus.append(calls.call == VIRUS)
            length_nt += int(records["length_nt"].to_numpy()[~is_virus[-1]].sum())
        others, knots = ~np.concatenate(is_virus), self._model.false_rates.shape[1]
        count = np.zeros(knots, np.int64)
        for piece in self._kept.pieces():
            evidence = piece["evidence"].to_numpy()[others[piece["record_index"]]]
            count += np.bincount(self._model.knot(evidence), minlength=knots)
        self._q_values = self._model.q_values(count, length_nt)

    def pieces(self) -> Iterator[pa.Table]:
        """All of them, many at a time, with their ``q_value``, and whether they are sure.

        It is the expected share of regions without a virus among those of no less evidence: by the
        model's rates, see `RegionModel.q_values`; where it has none the mean of 1 -
        ``probability``, see `calibration.q_values`.
        """
        for piece in self._kept.pieces():
            if self._model is None:
                q_value, most = self._sample.q_values(_evidence(piece)), SURE_BY_PROBABILITY
            else:
                knot = self._model.knot(piece["evidence"].to_numpy())
                q_value, most = self._q_values[knot], SURE_Q_VALUE
            columns = [*piece.columns, pa.array(q_value), pa.array(q_value <= most)]
            yield pa.table(columns, schema=_JUDGED)

    @cached_property
    def _sample(self) -> Sample:
        # Probabilities are of the records as they are: no share of viruses is to be told first.
        pieces = (_evidence(piece) for piece in self._kept.pieces())
        return Sample(pieces, SURE_BY_PROBABILITY, self._folder, prevalence=0.5)


def _evidence(regions: pa.Table) -> Floats:
    chance = np.minimum(regions["probability"].to_numpy(), 1 - _NEAREST)
    evidence: Floats = np.log(chance) - np.log1p(-chance)
    return evidence


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
        of_records = pa.concat_tables([_JUDGED.empty_table(), *found])
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
    holds_one = (np.bincount(at, regions["is_sure"].to_numpy(), len(records)) > 0) & (
        fraction <= MOST_FRACTION
    )
    holds_one &= np.isin(calls.call, (OTHERS, UNSURE))
    calls = replace(calls, call=np.where(holds_one, VIRUS_REGION, calls.call))
    if calls.basis is None:
        return calls
    if calls.rule.contig_model is None or calls.rule.contig_model.regions is None:
        fraction = np.full(len(records), np.nan)
    of_genes = calls.basis.genes > 0
    return replace(calls, virus_fraction=np.where(of_genes, fraction, calls.virus_fraction))
