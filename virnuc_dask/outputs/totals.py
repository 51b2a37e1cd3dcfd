"""What came out of a run, summed up over all records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from virnuc_dask.outputs.contigs import SHOWN
from virnuc_dask.stages.calls import OTHERS, UNSCORED, UNSURE, VIRUS, VIRUS_REGION, ContigCalls

WRITTEN = ("", VIRUS, VIRUS_REGION)  # calls of records whose DNA is written, in part or whole


@dataclass
class Totals:
    """What came out of a run, counted from its tables."""

    chunks: int = 0
    chunks_scored: int = 0
    chunks_virus: int = 0
    frames: int = 0
    contigs: Mapping[str, int] = field(default_factory=dict)  # by call
    called_by: str = ""  # what makes a record a virus
    prevalence: float | None = None  # estimated share of viruses among the scored records
    highest: Sequence[Mapping[str, Any]] = ()  # the most viral records
    pairs: Mapping[str, int] | None = None  # of reads, by call; None of a run without
    genes: int | None = None  # and those called virus; None of a set that reads frames
    genes_virus: int | None = None


class CallCounts:
    """What the calls of all records add up to."""

    def __init__(self, records: int, first: ContigCalls) -> None:
        unsure = [UNSURE] if first.rule.contig_model else []
        kinds = (VIRUS, VIRUS_REGION, OTHERS, UNSCORED, *unsure)
        self._counts = dict.fromkeys(kinds, 0)
        self._genes = None if first.basis is None else [0, 0]
        self._highest, self._ids = first.take(slice(0)), list[str]()
        self.written = np.zeros(records, np.uint8)  # by record index, a place in `WRITTEN`
        self.is_unsure = np.zeros(records, bool)

    def add(self, records: pa.Table, calls: ContigCalls) -> None:
        """Take in the calls of some records."""
        self.is_unsure[records["record_index"].to_numpy()] = calls.call == UNSURE
        for kind in self._counts:
            is_called = calls.call == kind
            self._counts[kind] += int(np.count_nonzero(is_called))
            if kind in WRITTEN:
                self.written[records["record_index"].to_numpy()[is_called]] = WRITTEN.index(kind)
        if self._genes is not None and calls.basis is not None:
            self._genes[0] += int(calls.basis.genes.sum())
            self._genes[1] += int(calls.basis.viral_genes.sum())
        order = calls.order[:SHOWN]
        ids = [*self._ids, *records["record_id"].take(order).to_pylist()]
        both = ContigCalls.joined([self._highest, calls.take(order)])
        self._highest = both.take(both.order[:SHOWN])
        self._ids = [ids[row] for row in both.order[:SHOWN]]

    def count(self, totals: Totals) -> None:
        """Put it into the totals of a run."""
        calls = self._highest
        totals.contigs, totals.highest = self._counts, _highest(self._ids, calls)
        if self._genes is not None:
            totals.genes, totals.genes_virus = self._genes
        totals.called_by = str(calls.rule)
        totals.prevalence = None if calls.prevalence is None else round(calls.prevalence, 6)


def _highest(record_ids: Sequence[str], calls: ContigCalls) -> list[dict[str, Any]]:
    columns = {"score": calls.score}
    if calls.rule.has_probability:
        columns["probability"] = calls.probability
    return [
        {
            "record_id": record_id,
            **{name: _rounded(values[row]) for name, values in columns.items()},
            "call": str(calls.call[row]),
        }
        for row, record_id in enumerate(record_ids)
    ]


def _rounded(value: float) -> float | None:
    """As `contigs.tsv` has it; JSON knows no number that is none."""
    return None if np.isnan(value) else round(float(value), 6)
