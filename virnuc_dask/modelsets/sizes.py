"""How much memory weights take, from the headers of their files; asked without torch."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import SafetensorError, safe_open

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.manifest import ModelSetInfo

# Weights in 8 bits are made from bf16 ones: while they load they take two bytes.
_VALUE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 2}


def weight_values(path: Path) -> int:
    """Values that a safetensors file holds; `ModelSetError` if it is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (SafetensorError, OSError) as error:
        raise ModelSetError(
            f"{path}: missing or damaged ({error}). Import or download the model set again."
        ) from error


def weight_bytes(path: Path, precision: str) -> int:
    """Memory that the weights of a safetensors file take; errors as of `weight_values`."""
    return weight_values(path) * _VALUE_BYTES[precision]


def encoder_bytes(folder: Path, info: ModelSetInfo, precision: str) -> int:
    """Memory that both encoders of a model set take together; see `weight_bytes`."""
    files = info.nucleotide.file, info.peptide.file
    return sum(weight_bytes(folder / file, precision) for file in files)
