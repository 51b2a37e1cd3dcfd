"""What a contig model knows of regions: how viral genes look, and how long they stay together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STRUCTURE = ("closeness", "same_strand")
_NEUTRAL_GAP_NT = 100
_MOST_GAP_NT = 300


@dataclass(frozen=True, slots=True)
class RegionModel:
    """A hidden Markov model of two states, host and virus, along the genes of a record.

    A gene's log-likelihood ratio, virus against host, is linear in its evidence and in how it lies
    among its neighbours (`structure`), and ends at ``most``, so that no single gene is a region.
    """

    weight: Floats  # of each column of evidence
    bias: float
    most: float
    initial: float  # probability that a record's first gene is viral
    enter: float  # probability that a viral gene follows one of the host
    leave: float  # probability that a gene of the host follows a viral one
    least_genes: int  # of a region
    # Of each column of `structure`; files without it look at evidence alone.
    structure: Floats = field(default_factory=lambda: np.zeros(len(STRUCTURE)))
    # (2, knots): evidence of regions, ascending, and how many of that evidence or more there are
    # in a megabase without a virus; a file can lack it.
    false_rates: Floats = field(default_factory=lambda: np.zeros((2, 0)))

    def __post_init__(self) -> None:
        if self.weight.ndim != 1 or not np.isfinite([*self.weight, self.bias]).all():
            raise ValueError("regions: weights must be numbers, one a column of evidence")
        if self.structure.shape != (len(STRUCTURE),) or not np.isfinite(self.structure).all():
            raise ValueError(f"regions: structure must be {len(STRUCTURE)} numbers")
        if self.false_rates.ndim != 2 or len(self.false_rates) != 2:
            raise ValueError("regions: false_rates are knots of evidence, and a rate at each")
        at, rate = self.false_rates
        if not ((np.diff(at) > 0).all() and (np.diff(rate) <= 0).all() and (rate >= 0).all()):
            raise ValueError("regions: the rate of false ones must fall as evidence ascends")
        for name in ("initial", "enter", "leave"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"regions: {name} must lie between 0 and 1")
        # Beyond, a product of likelihoods has no number.
        if not 0 < self.most <= 50 or self.least_genes < 1:
            raise ValueError("regions: most lies in (0, 50], and a region has a gene")

    def log_ratio(self, evidence: NDArray[Any], neighbours: Floats) -> Floats:
        """Log-likelihood ratio of each gene, from (genes, columns) and the genes' `structure`."""
        ratio = evidence.astype(np.float64) @ self.weight + neighbours @ self.structure + self.bias
        clipped: Floats = np.clip(ratio, -self.most, self.most)
        return clipped

    def knot(self, evidence: Floats) -> NDArray[np.int64]:
        """The last knot of `false_rates` that each evidence reaches; the first, if none."""
        return np.maximum(np.searchsorted(self.false_rates[0], evidence, side="right") - 1, 0)

    def q_values(self, regions: NDArray[np.int64], length_nt: float) -> Floats:
        """The q-value of a region, by the `knot` of its evidence.

        As many false regions as ``length_nt`` of DNA without a virus has, by those that were
        found: the least ratio of all knots up to this one.

        ``regions`` is how many were found at each knot.
        """
        found = np.maximum(np.cumsum(regions[::-1])[::-1], 1)
        ratio = self.false_rates[1] * length_nt / 1e6 / found
        least: Floats = np.minimum.accumulate(np.minimum(ratio, 1))
        return least


def structure(
    record: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    strand: NDArray[Any],
) -> Floats:
    """How each gene lies among its neighbours, (genes, `STRUCTURE`).

    Viruses leave less room between genes than their hosts, and turn more of them the same way.
    Closeness falls from 1, where genes touch, to -2, 300 nt apart; a neighbour on the same strand
    counts 1, on the other -1. Both are means over both sides; no neighbour counts 0. Genes are by
    record and start; places are in nt.
    """
    gap = np.clip(start[1:] - end[:-1], 0, _MOST_GAP_NT)
    pair = np.ones((len(gap), len(STRUCTURE)))
    pair[:, 0] -= gap / _NEUTRAL_GAP_NT
    pair[strand[1:] != strand[:-1], 1] = -1
    pair[record[1:] != record[:-1]] = 0
    sides = np.zeros((len(record), len(STRUCTURE)))
    sides[1:] += pair / 2
    sides[:-1] += pair / 2
    return sides
