"""ESM-2 on a CPU: the same transformer as `layers.Esm2Module`, arranged for `kernels`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from virnuc_dask.encoders.attention import RotaryTables
from virnuc_dask.encoders.esm2.layers import TOKEN_DROPOUT_SCALE, Esm2Layer, Esm2Module
from virnuc_dask.encoders.kernels import Products, attend_in_cache
from virnuc_dask.encoders.transformer import Transformer


class Esm2OnCpu(Transformer):
    """An ESM-2 whose queries and keys turn as complex numbers.

    Rotary positions pair value i of a head with value i + head_dim / 2. Where the rows of the
    query and key weights are put in that order, each pair lies side by side and is one complex
    number; turning it by its position is one multiplication. The scores stay the same, because
    queries and keys are put in the same order.
    """

    def __init__(self, module: Esm2Module, products: Products) -> None:
        super().__init__()
        self._products = products
        self.sizes = module.sizes
        self.embedding, self.norm = module.embedding, module.norm
        layers = cast(Iterable[Esm2Layer], module.layers)
        self.layers = nn.ModuleList(_arranged(layer, products) for layer in layers)
        self.register_buffer("inverse_frequencies", module.inverse_frequencies)
        self._rotary = RotaryTables()
        self._turns: Tensor | None = None

    inverse_frequencies: Tensor

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output, the last one normalised."""
        turns = self._turns_up_to(tokens.shape[1])
        hidden = self.embedding(tokens)
        if self.sizes.token_dropout:
            hidden = hidden * TOKEN_DROPOUT_SCALE
        for layer in cast(Iterable[Esm2Layer], self.layers):
            yield hidden
            qkv = self._products.linear(layer.attention_norm(hidden), layer.qkv)
            mixed = self._attend(qkv, turns)
            hidden = self._products.linear_onto(hidden, mixed, layer.attention_out)
            inner = self._products.linear_gelu(layer.mlp_norm(hidden), layer.up)
            hidden = self._products.linear_onto(hidden, inner, layer.down)
        yield self.norm(hidden)

    def _attend(self, qkv: Tensor, turns: Tensor) -> Tensor:
        """Attention of queries, keys and values, (batch, tokens, 3 * embed_dim)."""
        heads, dim = self.sizes.heads, self.sizes.embed_dim
        shape = qkv.shape[:2]
        pairs = qkv[..., : 2 * dim].float().view(*shape, dim, 2)
        torch.view_as_complex(pairs).mul_(turns)
        query, key = pairs.to(qkv.dtype).view(*shape, 2, heads, -1).unbind(2)
        return attend_in_cache(query, key, qkv[..., 2 * dim :].view(*shape, heads, -1))

    def _turns_up_to(self, tokens: int) -> Tensor:
        """Rotations of all queries' and keys' pairs, complex, shape (tokens, embed_dim)."""
        turns = self._turns
        if turns is None or len(turns) < tokens:
            cosines, sines = self._rotary.up_to(tokens, self.inverse_frequencies)
            turns = self._turns = torch.complex(cosines, sines).repeat(1, 2 * self.sizes.heads)
        return turns[:tokens]


def _arranged(layer: Esm2Layer, products: Products) -> Esm2Layer:
    """The layer as ``products`` want it, rows of its query and key weights in pairs."""
    arranged = copy.copy(layer)
    arranged._modules = dict(layer._modules)
    arranged.qkv = products.prepared(_with_paired_rotations(layer))
    for name in ("attention_out", "up", "down"):
        setattr(arranged, name, products.prepared(getattr(layer, name)))
    return arranged


def _with_paired_rotations(layer: Esm2Layer) -> nn.Linear:
    dim = layer.qkv.in_features
    rows = torch.arange(2 * dim).view(2 * layer.heads, 2, -1).transpose(1, 2).flatten()
    rows = torch.cat([rows, torch.arange(2 * dim, 3 * dim)])
    paired = nn.Linear(dim, 3 * dim, device="meta")
    paired.weight = nn.Parameter(layer.qkv.weight[rows], requires_grad=False)
    paired.bias = nn.Parameter(layer.qkv.bias[rows], requires_grad=False)
    return paired
