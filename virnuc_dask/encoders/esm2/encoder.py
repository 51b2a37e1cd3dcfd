"""ESM-2: peptides → the mean of their residues' last hidden states.

Sizes, weights and alphabet are fair-esm's (Lin et al. 2023,
https://doi.org/10.1126/science.ade2574).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.esm2.cpu import Esm2OnCpu
from virnuc_dask.encoders.esm2.layers import Esm2Module, Esm2Sizes
from virnuc_dask.encoders.esm2.tokens import token_ids
from virnuc_dask.encoders.fp8 import check_gpu
from virnuc_dask.encoders.kernels import products_for
from virnuc_dask.encoders.transformer import Transformer, TransformerEncoder
from virnuc_dask.encoders.weights import load_module, read_sizes


class Esm2(TransformerEncoder):
    """Embeds peptides with an ESM-2."""

    def __init__(self, module: Esm2Module, placement: Placement) -> None:
        used: Transformer = module
        if placement.device == "cpu":
            used = Esm2OnCpu(module, products_for(placement.kernels, placement.dtype))
        super().__init__(used, module.sizes.embed_dim, placement)

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read the weights; `ModelSetError` if they are not what ``spec`` says."""
        sizes = read_sizes(spec, Esm2Sizes)
        module = load_module(lambda: Esm2Module(sizes), folder / spec.file, placement)
        if placement.precision == "fp8":
            check_gpu()
            module.multiply_in_8_bits()
        return cls(module, placement)

    def tokenise(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of each peptide, begin and end included.

        Raises
        ------
        ValueError
            If a peptide is empty: it has no residues to take the mean of.
        """
        if not all(texts):
            raise ValueError("an empty peptide has no embedding")
        return [token_ids(text) for text in texts]

    def pool(self, hidden: Tensor) -> Tensor:
        """The mean of the residues, begin and end left out."""
        return hidden[:, 1:-1].mean(1, dtype=torch.float32)
