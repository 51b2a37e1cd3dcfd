"""The genes of whole records → evidence: natural-log likelihood ratios, and how far to trust them.

The least that can stand here: a straight line through the mean viral logit of a record's genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from virnuc_dask.errors import ModelSetError
from virnuc_dask.tables.vectors import from_column

Floats = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ContigModel:
    """``called``: probability from which a record is virus; below ``reliable`` it is unsure."""

    slope: float
    offset: float
    called: float
    reliable: float

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a contig model; `ModelSetError` if it is none."""
        try:
            tensors = load_file(path)
            return cls(
                *(float(tensors[name]) for name in ("slope", "offset", "called", "reliable"))
            )
        except (SafetensorError, OSError, KeyError, TypeError) as error:
            raise ModelSetError(f"{path}: not a contig model: {error}") from error

    def weigh(
        self, genes: pa.Table, record: IntArray, length_nt: IntArray
    ) -> tuple[Floats, Floats]:
        """Evidence and reliability, in [0, 1], of whole records.

        Parameters
        ----------
        genes
            Rows of a prediction table, by record and start.
        record
            Of each gene, from 0, ascending.
        length_nt
            Of each record.
        """
        logit = from_column(genes, "evidence")[:, 0]
        count = np.bincount(record, minlength=len(length_nt))
        mean = np.bincount(record, logit, len(length_nt)) / np.maximum(count, 1)
        return self.slope * mean + self.offset, 1 - 1 / (1 + count)
