"""What both transformers share: texts through batches of one length to mean-pooled vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from virnuc_dask.encoders.batching import embed_in_batches, texts_a_batch
from virnuc_dask.encoders.encoder import Encoder, Placement

# Measured by benchmarks/bench_encoders.py: enough for a product at its full rate, few enough for a
# core's cache, and small partitions make batches for all threads.
_CPU_TOKENS = 2048
# On a GPU a layer's intermediate values a token: hidden states, queries, keys, values, attention
# and a perceptron of four times the width, as multiples of the width; half of the free memory.
_GPU_WIDTHS, _GPU_SHARE = 16, 0.5
_GPU_TOKENS = (4096, 65536)


class Transformer(nn.Module, ABC):
    """Token ids (batch, tokens), begin and end included → hidden states."""

    @abstractmethod
    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output, the last one as it is pooled."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Last hidden states, shape (batch, tokens, embed_dim)."""
        for hidden in self.hidden_states(tokens):
            last = hidden
        return last


class TransformerEncoder(Encoder):
    """Embeds texts with a transformer, which lies where it computes: means of its last layer."""

    def __init__(self, module: nn.Module, dim: int, placement: Placement) -> None:
        self.dim = dim
        self.module = module
        self.weight_bytes = sum(tensor.nbytes for tensor in module.state_dict().values())
        self.placement = placement
        # One graph for each shape: the full batches of the common lengths.
        self._compiled = torch.compile(module, dynamic=False) if placement.compile else None

    @cached_property
    def max_tokens(self) -> int:
        """Tokens a batch; decided at the first batch, when all that stays in memory is there."""
        return self.placement.max_tokens or fitting_tokens(self.dim, self.placement)

    @abstractmethod
    def pool(self, hidden: Tensor) -> Tensor:
        """Hidden states (batch, tokens, dim) → embeddings (batch, dim), fp32."""

    def embed_tokens(self, tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Embeddings of tokenised texts, shape (len(tokens), dim), float32, order kept."""
        return embed_in_batches(
            tokens,
            self._forward,
            self.dim,
            self.max_tokens,
            device=self.placement.device,
            fill=self._compiled is not None,
        )

    @torch.inference_mode()
    def _forward(self, tokens: Tensor) -> Tensor:
        is_full = len(tokens) == texts_a_batch(tokens.shape[1], self.max_tokens)
        module = self._compiled if self._compiled is not None and is_full else self.module
        return self.pool(module(tokens))


def fitting_tokens(dim: int, placement: Placement) -> int:
    """Tokens a batch: what a CPU's cache holds, or half of a GPU's free memory, a power of two."""
    if placement.device == "cpu":
        return _CPU_TOKENS
    free, _ = torch.cuda.mem_get_info()
    least, most = _GPU_TOKENS
    fit = int(free * _GPU_SHARE / (_GPU_WIDTHS * dim * placement.dtype.itemsize))
    return max(least, min(most, 1 << max(fit, 1).bit_length() - 1))
