"""DNABERT-S on a CPU: the same transformer as `layers.DnabertSModule`, by `kernels`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from torch import Tensor, nn

from virnuc_dask.encoders.attention import AlibiBias
from virnuc_dask.encoders.dnabert_s.layers import DnabertSLayer, DnabertSModule
from virnuc_dask.encoders.kernels import LOG2_E, Products, attend_in_cache
from virnuc_dask.encoders.transformer import Transformer


class DnabertSOnCpu(Transformer):
    """A DNABERT-S with the weights of ``module``, as ``products`` want them."""

    def __init__(self, module: DnabertSModule, products: Products) -> None:
        super().__init__()
        self._products = products
        self.sizes = module.sizes
        self.embedding, self.token_type = module.embedding, module.token_type
        self.norm = module.norm
        layers = cast(Iterable[DnabertSLayer], module.layers)
        self.layers = nn.ModuleList(_Layer(layer, products) for layer in layers)
        self._alibi = AlibiBias(module.sizes.heads, unit=LOG2_E)

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output."""
        hidden = self.norm(self.embedding(tokens) + self.token_type)
        bias = self._alibi.up_to(tokens.shape[1], hidden)[0]
        yield hidden
        for layer in cast(Iterable[_Layer], self.layers):
            qkv = self._products.linear(hidden, layer.qkv)
            query, key, value = qkv.view(*qkv.shape[:2], 3, layer.heads, -1).unbind(2)
            mixed = attend_in_cache(query, key, value, bias)
            mixed = self._products.linear_onto(hidden, mixed, layer.attention_out)
            hidden = layer.attention_norm(mixed)
            inner = self._products.linear_gelu(hidden, layer.gate)
            inner = inner.mul_(self._products.linear(hidden, layer.up))
            hidden = layer.mlp_norm(self._products.linear_onto(hidden, inner, layer.down))
            yield hidden


class _Layer(nn.Module):
    """A layer's parts; ``gate`` and ``up`` are two products, each ends in an array without gaps."""

    def __init__(self, layer: DnabertSLayer, products: Products) -> None:
        super().__init__()
        self.heads = layer.heads
        self.attention_norm, self.mlp_norm = layer.attention_norm, layer.mlp_norm
        self.qkv = products.prepared(layer.qkv)
        self.attention_out = products.prepared(layer.attention_out)
        gate, up = layer.gate_and_up.weight.chunk(2)
        self.gate, self.up = products.prepared(_linear(gate)), products.prepared(_linear(up))
        self.down = products.prepared(layer.down)


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
