"""What a page shows of the records of a run, from its ``contigs.tsv``, read piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.stages.calls import UNSCORED, UNSURE, VIRUS, CallRule

_COLUMNS = ("record_id", "call", "length_nt", "sample", "score", "probability", "q_value")
_LISTED = 20
_DRAWN = 2_000  # viruses, and as many of the rest
_BINS = 40
_SEED = 0
Q_VALUES = (0.01, 0.05, 0.1, 0.2, 0.5)


def floats(contigs: pa.Table, name: str) -> Floats:
    """A column of numbers; NaN where there is none."""
    values: Floats = contigs[name].to_numpy()
    return values


def _with_margins(path: Path, rule: CallRule) -> Iterator[pa.Table]:
    """Rows of a ``contigs.tsv`` that was written by ``rule``, with three columns more.

    ``row`` is its place in the file, ``value`` what its call goes by, and ``margin`` how far it
    lies above what makes it a virus, below 0 if it is none.
    """
    first = 0
    for contigs in read_contig_table(path, _COLUMNS):
        value = floats(contigs, "probability" if rule.has_probability else "score")
        if rule.fdr is not None:
            margin = rule.fdr - floats(contigs, "q_value")
        elif rule.contig_model is not None:
            margin = value - rule.threshold(contigs["length_nt"].to_numpy())
        else:
            margin = value - 0.5
        more = {"row": np.arange(first, first + len(contigs)), "value": value, "margin": margin}
        for name, column in more.items():
            contigs = contigs.append_column(name, pa.array(column))
        yield contigs
        first += len(contigs)


@dataclass
class Digest:
    """What a page shows of all records: its size does not depend on their number."""

    by: str  # what the calls go by: "probability" or "score"
    has_both: bool = False  # whether records have a score besides their probability
    records: int = 0
    shortest_nt: int = 1 << 62
    longest_nt: int = 1
    lowest_virus: float = np.nan  # the least value of a record that is called virus
    calls: Counter[str] = field(default_factory=Counter)  # records by call
    nt: Counter[str] = field(default_factory=Counter)  # by call
    samples: dict[str, Counter[str]] = field(default_factory=dict)  # records by call
    # "score" or "probability": call: records by value
    histograms: dict[str, dict[str, NDArray[np.int64]]] = field(default_factory=dict)
    # q-value up to: how many records, and the highest of theirs
    q_values: dict[float, tuple[int, float]] = field(
        default_factory=lambda: dict.fromkeys(Q_VALUES, (0, 0.0))
    )
    highest: pa.Table | None = None
    nearest: pa.Table | None = None
    # Drawn at random, for the plot: of the rest, and of viruses.
    drawn: dict[bool, pa.Table] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, rule: CallRule) -> Digest:
        """Of a ``contigs.tsv`` that was written by ``rule``; `BadTableError` if it is damaged."""
        # With a contig model the probability is the score.
        both = rule.calibration is not None and rule.contig_model is None
        digest = cls("probability" if rule.has_probability else "score", both)
        rng = np.random.default_rng(_SEED)
        for contigs in _with_margins(path, rule):
            digest._add(contigs)
            digest._draw(contigs.append_column("key", pa.array(rng.random(len(contigs)))))
        return digest

    def _add(self, contigs: pa.Table) -> None:
        length_nt, value = contigs["length_nt"].to_numpy(), floats(contigs, "value")
        call = contigs["call"].to_numpy()
        self.records += len(contigs)
        self.shortest_nt = min(self.shortest_nt, int(length_nt.min(initial=1 << 62)))
        self.longest_nt = max(self.longest_nt, int(length_nt.max(initial=1)))
        least = value[call == VIRUS].min(initial=np.inf)
        self.lowest_virus = float(np.fmin(self.lowest_virus, least))
        self._count(contigs)
        q_value = floats(contigs, "q_value")
        for most, (count, highest) in self.q_values.items():
            here = q_value[q_value <= most]
            self.q_values[most] = count + len(here), max(highest, float(here.max(initial=0)))
        is_scored = ~np.isnan(value)
        is_sure = (call != UNSURE) & ~np.isnan(floats(contigs, "margin"))
        self.highest = _first(self.highest, contigs.filter(is_scored), "value")
        self.nearest = _first(self.nearest, contigs.filter(is_scored & is_sure), "margin")

    def _count(self, contigs: pa.Table) -> None:
        by = contigs.group_by(["sample", "call"], use_threads=False)
        for row in by.aggregate([([], "count_all"), ("length_nt", "sum")]).to_pylist():
            self.calls[row["call"]] += row["count_all"]
            self.nt[row["call"]] += row["length_nt_sum"]
            of_sample = self.samples.setdefault(row["sample"], Counter())
            of_sample[row["call"]] += row["count_all"]
        measures = {"score": floats(contigs, "score")} if self.has_both else {}
        call = contigs["call"].to_numpy()
        for name, value in (measures | {self.by: floats(contigs, "value")}).items():
            counts = self.histograms.setdefault(name, {})
            for each in set(call.tolist()) - {UNSCORED}:
                known = value[(call == each) & ~np.isnan(value)]
                more = np.histogram(known, _BINS, (0, 1))[0]
                counts[each] = counts.get(each, 0) + more

    def _draw(self, contigs: pa.Table) -> None:
        """Keep the records with the smallest of random keys: each is as likely as another."""
        is_scored = ~np.isnan(floats(contigs, "value"))
        for is_virus in (False, True):
            chosen = is_scored & ((contigs["call"].to_numpy() == VIRUS) == is_virus)
            both = _joined(self.drawn.get(is_virus), contigs.filter(chosen))
            order = np.argsort(floats(both, "key"), kind="stable")
            self.drawn[is_virus] = both.take(order[:_DRAWN])


def _joined(kept: pa.Table | None, new: pa.Table) -> pa.Table:
    return new if kept is None else pa.concat_tables([kept, new])


def _first(kept: pa.Table | None, new: pa.Table, by: str) -> pa.Table:
    """The most viral, by ``value``, or those nearest to 0; of equal ones the earlier."""
    both = _joined(kept, new)
    key = -floats(both, by) if by == "value" else np.abs(floats(both, by))
    return both.take(np.argsort(key, kind="stable")[:_LISTED])
