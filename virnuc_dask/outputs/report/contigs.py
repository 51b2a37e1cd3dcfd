"""``contigs.tsv`` as columns, and which of its records a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
from numpy.typing import NDArray

from virnuc_dask.errors import BadTableError
from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.stages.calls import OTHERS, VIRUS, CallRule
from virnuc_dask.tables.parquet import local

_TEXTS = ("record_id", "call", "topology", "reading")
_NUMBERS = ("score", "probability", "q_value", "coding_density", "reliability")
_SEED = 0

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Contigs:
    """Records of a run, column by column, in the order of the input: a row's place is its index.

    ``margin`` is how far a record lies above what makes it a virus, below 0 if it is none; NaN
    where nothing was scored.
    """

    record_id: pa.ChunkedArray
    call: NDArray[np.str_]
    length_nt: Rows
    score: Floats
    probability: Floats  # NaN without a calibration
    q_value: Floats
    margin: Floats
    by: str  # what the call goes by: "probability" or "score"

    @classmethod
    def read(cls, path: Path, rule: CallRule) -> Contigs:
        """Read ``contigs.tsv``, which was written by ``rule``.

        Raises
        ------
        BadTableError
            If the file is missing or damaged.
        """
        types = dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_NUMBERS, pa.float64())
        try:
            table = csv.read_csv(
                local(path),
                parse_options=csv.ParseOptions(delimiter="\t", newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=types, null_values=[""]),
            )
            length = table["length_nt"].to_numpy().astype(np.int64)
            score, chance, q_value = (table[name].to_numpy() for name in _NUMBERS[:3])
            margin = _margin(rule, length, score, chance, q_value)
            call = np.array(table["call"].to_pylist(), np.str_)
            by = "probability" if rule.has_probability else "score"
            return cls(table["record_id"], call, length, score, chance, q_value, margin, by)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise BadTableError(f"{path}: cannot be read ({error}).") from error

    @property
    def value(self) -> Floats:
        """What the calls go by, between 0 and 1."""
        return self.probability if self.by == "probability" else self.score

    def most_viral(self, count: int) -> Rows:
        """So many records, by falling value."""
        order = np.argsort(-self.value, kind="stable")  # NaN comes last
        return order[: min(count, int((~np.isnan(self.value)).sum()))]

    def nearest(self, count: int) -> Rows:
        """Those whose call would change first, nearest first."""
        sure = np.flatnonzero(np.isin(self.call, (VIRUS, OTHERS)) & ~np.isnan(self.margin))
        return sure[np.argsort(np.abs(self.margin[sure]), kind="stable")[:count]]

    def drawn(self, most: int) -> Rows:
        """Scored records for a plot: all, or as many of the viruses as of the rest, at random."""
        scored = np.flatnonzero(~np.isnan(self.value))
        if len(scored) <= most:
            return scored
        rng = np.random.default_rng(_SEED)
        is_virus = self.call[scored] == VIRUS
        viruses, rest = scored[is_virus], scored[~is_virus]
        share = min(len(viruses), max(most // 2, most - len(rest)))
        parts = rng.choice(viruses, share, False), rng.choice(rest, most - share, False)
        return np.sort(np.concatenate(parts))


def _margin(
    rule: CallRule, length_nt: Rows, score: Floats, chance: Floats, q_value: Floats
) -> Floats:
    if rule.fdr is not None:
        return rule.fdr - q_value
    if rule.contig_model is not None:
        return chance - rule.threshold(length_nt)
    return (chance if rule.has_probability else score) - 0.5
