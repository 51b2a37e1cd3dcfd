"""What a contig model knows of regions: how viral genes look, and how long they stay together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RegionModel:
    """A hidden Markov model of two states, host and virus, along the genes of a record.

    A gene's log-likelihood ratio, virus against host, is linear in its evidence and ends at
    ``most``, so that no single gene is a region.
    """

    weight: Floats  # of each column of evidence
    bias: float
    most: float
    initial: float  # probability that a record's first gene is viral
    enter: float  # probability that a viral gene follows one of the host
    leave: float  # probability that a gene of the host follows a viral one
    least_genes: int  # of a region

    def __post_init__(self) -> None:
        if self.weight.ndim != 1 or not np.isfinite([*self.weight, self.bias]).all():
            raise ValueError("regions: weights must be numbers, one a column of evidence")
        for name in ("initial", "enter", "leave"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"regions: {name} must lie between 0 and 1")
        # Beyond, a product of likelihoods has no number.
        if not 0 < self.most <= 50 or self.least_genes < 1:
            raise ValueError("regions: most lies in (0, 50], and a region has a gene")

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """From the arrays of a contig model's file; `KeyError`, `ValueError` if they are none."""
        numbers = ("bias", "most", "initial", "enter", "leave")
        return cls(
            weight=np.asarray(arrays["weight"], np.float64),
            least_genes=int(arrays["least_genes"].item()),
            **{name: float(arrays[name].item()) for name in numbers},
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As `of` takes them."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    def log_ratio(self, evidence: NDArray[Any]) -> Floats:
        """Log-likelihood ratio of each gene, (genes, columns) → (genes,)."""
        ratio: Floats = evidence.astype(np.float64) @ self.weight + self.bias
        return np.clip(ratio, -self.most, self.most)
