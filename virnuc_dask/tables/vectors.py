"""Embeddings as columns: arrays of shape (rows, dim) to and from fixed-size lists."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def to_column(embeddings: NDArray[np.float32], dtype: str) -> pa.FixedSizeListArray:
    """A column of vectors of ``dtype``, `float32` or `float16`.

    Half precision keeps 11 bits of each value. Beyond 65,504 it has none, and such a frame is
    refused when it is scored.
    """
    with np.errstate(over="ignore"):
        values = embeddings.astype(dtype, copy=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), embeddings.shape[1])


def from_column(table: pa.Table, name: str) -> NDArray[np.float32]:
    """A column of vectors, of either dtype, as float32 of shape (rows, dim)."""
    dim = table.schema.field(name).type.list_size
    flat = table[name].combine_chunks().flatten().to_numpy()
    vectors: NDArray[np.float32] = flat.astype(np.float32, copy=False).reshape(-1, dim)
    return vectors
