"""What the encoders compute on a CPU: matrix products with what follows them, and attention.

One thread computes one batch (see `batching`): no product is shared between threads, so a busy
machine costs its share and no more, and results do not depend on the number of threads. Held to
the plain path by tests/encoders/test_kernels.py; measured by benchmarks/bench_encoders.py.
"""

from __future__ import annotations

import copy
import math
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from virnuc_dask.encoders.processor import AVX2, AVX512

# exp2(x * LOG2_E) is exp(x); exp2 has one fast implementation on all processors, exp has not.
LOG2_E = 1 / math.log(2)
# Scores that are in work at once: few enough to stay in a core's own cache.
_SCORES = 1 << 17
# torch computes what is left over at the end of an array by another function: none must be.
_VECTOR = 64
# Rows of a product that weights are packed for; others are no less right.
_PACKED_FOR = 2048
# Sums of exponentials outside are too near the ends of the number range to be trusted.
_LEAST_SUM, _LARGEST_SUM = 2.0**-60, 2.0**120


class Products:
    """Linear layers, and what follows them, by torch; all shapes (..., features)."""

    def prepared(self, layer: nn.Linear) -> nn.Linear:
        """``layer`` as the other methods take it; where its weights change they are copied."""
        return layer

    def linear(self, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """``layer`` of ``inputs``."""
        return layer(inputs)  # type: ignore[no-any-return]

    def linear_gelu(self, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """The exact GELU of ``layer`` of ``inputs``."""
        return torch.ops.aten.gelu_(self.linear(inputs, layer))  # type: ignore[no-any-return]

    def linear_onto(self, hidden: Tensor, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """``hidden`` plus ``layer`` of ``inputs``."""
        return self.linear(inputs, layer).add_(hidden)


class PackedProducts(Products):
    """oneDNN's products of weights in its own layout; what follows is done in place.

    Without AVX-512 a GELU or a sum that is fused in costs several times one by itself, and weights
    that are put in order anew for every product a twentieth of it.
    """

    def prepared(self, layer: nn.Linear) -> nn.Linear:
        """``layer`` with weights that only these products can read."""
        packed = copy.copy(layer)
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _PACKED_FOR)
        packed._parameters = dict(layer._parameters) | {
            "weight": nn.Parameter(weight, requires_grad=False)
        }
        return packed

    def linear(self, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """As of `Products`."""
        return _pointwise(inputs, layer, "none", "")


class FusedProducts(Products):
    """oneDNN's products with what follows fused in: the ops that torch's own compiler emits.

    With AVX-512 on AMD processors oneDNN computes fp32 at more than twice MKL's rate, and nothing
    else computes bf16 at that of the hardware. They have no gradient.
    """

    def linear(self, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """As of `Products`."""
        return _pointwise(inputs, layer, "none", "")

    def linear_gelu(self, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """As of `Products`."""
        return _pointwise(inputs, layer, "gelu", "none")

    def linear_onto(self, hidden: Tensor, inputs: Tensor, layer: nn.Linear) -> Tensor:
        """As of `Products`."""
        op = torch.ops.mkldnn._linear_pointwise.binary
        return op(inputs, hidden, layer.weight, layer.bias, "add")  # type: ignore[no-any-return]


def _pointwise(inputs: Tensor, layer: nn.Linear, then: str, how: str) -> Tensor:
    op = torch.ops.mkldnn._linear_pointwise
    return op(inputs, layer.weight, layer.bias, then, [], how)  # type: ignore[no-any-return]


def products_for(instructions: str, dtype: torch.dtype, *, pack: bool = True) -> Products:
    """The products that are fast with ``instructions``, if this processor can compute them at all.

    Weights are of ``dtype``. ``pack``: whether packed weights, which cannot be shared with the
    file, are worth it: not from a width of 768 on, where MKL is as fast.
    """
    if instructions == AVX512 and multiplies_fused(dtype):
        return FusedProducts()
    if pack and instructions == AVX2 and dtype == torch.float32 and multiplies_fused(dtype):
        return PackedProducts()
    return Products()


def multiplies_fused(dtype: torch.dtype) -> bool:
    """Whether this machine's oneDNN has a fused product of matrices of ``dtype``."""
    ops = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(ops, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def attend_in_cache(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`attention.attend`, a few heads at a time; ``bias``: (heads, keys, queries), times `LOG2_E`.

    torch's own attention is made for wide heads; for heads of 16 to 64 values two batched products
    with nothing but one exponential between them are cheaper. The weights are
    2^score / sum 2^score, scores in units of log(2), a column for each query: so both products
    have long rows. The sum is a row of the product with the values, which get a row of ones for
    it; no maximum is subtracted, because a softmax does not change by it as long as the
    exponentials stay within the number range. Where they do not, the text is computed again by
    torch's own attention.
    """
    batch, tokens, heads, dim = value.shape
    mixed = value.new_empty(batch, tokens, heads, dim)
    sums = torch.empty(batch, heads, 1, tokens)
    texts = max(1, _SCORES // (heads * tokens * tokens))
    for start in range(0, batch, texts):
        now = slice(start, start + texts)
        products = _products_with_values(query[now], key[now], value[now], bias)
        sums[now] = products[:, :, dim:]
        mixed[now].permute(0, 2, 3, 1).copy_(products[:, :, :dim].div_(products[:, :, dim:]))
    for text in _out_of_range(sums):
        mixed[text] = _attend_by_torch(query[text], key[text], value[text], bias)
    return mixed.flatten(2)


def _products_with_values(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Values weighted by 2^score, and in a last row the sums of the weights.

    Shape (texts, heads, head_dim + 1, queries), in fp32: dividing a few bf16 values is slow.
    """
    texts, tokens, heads, dim = value.shape
    queries, keys = query.permute(0, 2, 3, 1).flatten(0, 1), key.transpose(1, 2).flatten(0, 1)
    values = value.new_empty(texts, heads, dim + 1, tokens)
    values[:, :, :dim], values[:, :, dim] = value.permute(0, 2, 3, 1), 1
    values = values.flatten(0, 1)
    products = torch.empty_like(values)
    at_once = max(1, _SCORES // (tokens * tokens))
    space = value.new_empty(_in_whole_vectors(min(len(values), at_once) * tokens * tokens))
    unused = repeat(value.new_empty(1))
    biases = unused if bias is None else torch.split(bias.repeat(texts, 1, 1), at_once)
    parts = (torch.split(part, at_once) for part in (keys, queries, values, products))
    for bias_part, key_part, query_part, value_part, product in zip(biases, *parts, strict=False):
        scores = len(key_part) * tokens * tokens
        weights = space[:scores].view(-1, tokens, tokens)
        torch.baddbmm(
            bias_part,
            key_part,
            query_part,
            beta=0 if bias is None else 1,
            alpha=LOG2_E / math.sqrt(dim),
            out=weights,
        )
        space[: _in_whole_vectors(scores)].exp2_()
        torch.bmm(value_part, weights, out=product)
    return products.view(texts, heads, dim + 1, tokens).float()


def _in_whole_vectors(values: int) -> int:
    return -(-values // _VECTOR) * _VECTOR


def _out_of_range(sums: Tensor) -> list[int]:
    """Texts whose sums of exponentials overflowed or vanished."""
    # Written so that a sum which is not a number is out of range too.
    trusted = (sums > _LEAST_SUM) & (sums < _LARGEST_SUM)
    outside: list[int] = (~trusted.flatten(1).all(1)).nonzero().flatten().tolist()
    return outside


def _attend_by_torch(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """One text, each part (tokens, heads, head_dim), by torch's attention."""
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    scores = None if bias is None else (bias.transpose(1, 2) / LOG2_E)[None]
    return scaled_dot_product_attention(query, key, value, attn_mask=scores)[0].transpose(0, 1)
