"""DNABERT-S's transformer in plain torch.

No position embeddings but an ALiBi bias, a gated perceptron, layer norms after each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu

from virnuc_dask.checks import checked
from virnuc_dask.encoders.attention import AlibiBias, attend
from virnuc_dask.encoders.encoder import Size
from virnuc_dask.encoders.transformer import Transformer
from virnuc_dask.encoders.weights import EncoderSizes


@checked
class DnabertSSizes(EncoderSizes):
    """The sizes of a DNABERT-S; the published one is 12 x 768, 12 heads, 3072, 4096 tokens."""

    mlp_dim: Size
    vocabulary: Size
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-12


class DnabertSModule(Transformer):
    """The transformer: token ids (batch, tokens), begin and end included → hidden states."""

    def __init__(self, sizes: DnabertSSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.embed_dim)
        # All tokens are of type 0: of the published table only that row is kept.
        self.token_type = nn.Parameter(torch.empty(sizes.embed_dim))
        self.norm = nn.LayerNorm(sizes.embed_dim, sizes.layer_norm_eps)
        self.layers = nn.ModuleList(DnabertSLayer(sizes) for _ in range(sizes.layers))
        self._alibi = AlibiBias(sizes.heads)

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output."""
        hidden = self.norm(self.embedding(tokens) + self.token_type)
        bias = self._alibi.up_to(tokens.shape[1], hidden)
        yield hidden
        for layer in self.layers:
            hidden = layer(hidden, bias)
            yield hidden


class DnabertSLayer(nn.Module):
    """Attention, then a gated perceptron, each added to its input and then normalised."""

    def __init__(self, sizes: DnabertSSizes) -> None:
        super().__init__()
        dim, eps = sizes.embed_dim, sizes.layer_norm_eps
        self.heads = sizes.heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps)
        self.gate_and_up = nn.Linear(dim, 2 * sizes.mlp_dim, bias=False)
        self.down = nn.Linear(sizes.mlp_dim, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Hidden states (batch, tokens, embed_dim) → the same, one layer on."""
        query, key, value = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).unbind(2)
        mixed = attend(query, key, value, bias)
        hidden = self.attention_norm(hidden + self.attention_out(mixed))
        gate, up = self.gate_and_up(hidden).chunk(2, dim=-1)
        return self.mlp_norm(hidden + self.down(gelu(gate) * up))  # type: ignore[no-any-return]
