"""DNABERT-S: a frame's DNA → the mean of all its tokens' last hidden states.

The architecture of DNABERT-2 (Zhou et al. 2024, https://arxiv.org/abs/2306.15006) with the
weights of DNABERT-S (https://arxiv.org/abs/2402.08777). No remote code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from virnuc_dask.encoders.dnabert_s.cpu import DnabertSOnCpu
from virnuc_dask.encoders.dnabert_s.layers import DnabertSModule, DnabertSSizes
from virnuc_dask.encoders.dnabert_s.tokens import read_tokenizer
from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.kernels import products_for
from virnuc_dask.encoders.transformer import Transformer, TransformerEncoder
from virnuc_dask.encoders.weights import load_module, read_sizes
from virnuc_dask.errors import ModelSetError


class DnabertS(TransformerEncoder):
    """Embeds upper-case DNA with a DNABERT-S."""

    def __init__(self, module: DnabertSModule, tokenizer: Tokenizer, placement: Placement) -> None:
        used: Transformer = module
        if placement.device == "cpu":
            products = products_for(placement.kernels, placement.dtype, pack=False)
            used = DnabertSOnCpu(module, products)
        super().__init__(used, module.sizes.embed_dim, placement)
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read weights and tokenizer; `ModelSetError` if they are not what ``spec`` says."""
        sizes = read_sizes(spec, DnabertSSizes)
        tokenizer = read_tokenizer(folder / (spec.tokenizer or "tokenizer.json"))
        tokens = tokenizer.get_vocab().values()
        if max([*tokens, *tokenizer.encode("ACGTN").ids], default=0) >= sizes.vocabulary:
            raise ModelSetError(
                f"{folder}: its tokenizer has more tokens than its weights. "
                "Import or download the model set again."
            )
        if placement.precision == "fp8":
            # Beside ESM-2 3B it is little work: not worth 8 bits, nor a bias rounded to bf16.
            placement = replace(placement, precision="fp16")
        module = load_module(lambda: DnabertSModule(sizes), folder / spec.file, placement)
        return cls(module, tokenizer, placement)

    def tokenise(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of each DNA, begin and end included."""
        return [
            np.array(encoding.ids, np.int64)
            for encoding in self.tokenizer.encode_batch_fast(list(texts))
        ]

    def pool(self, hidden: Tensor) -> Tensor:
        """The mean of all tokens, begin and end too."""
        return hidden.mean(1, dtype=torch.float32)
