"""What the encoders compute on a CPU: matrix products with what follows them, and attention.

torch leaves fp32 products to MKL and attention to a kernel made for wide heads. For the shapes of
these encoders oneDNN, which torch brings along, computes fp32 products at more than twice MKL's
rate on AMD processors, and attention over heads of 16 to 64 values is cheaper as two batched
products with nothing but one exponential between them. Held to the plain path by
tests/encoders/test_cpu_kernels.py; measured by benchmarks/bench_encoders.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

# exp2(x * LOG2_E) is exp(x); torch's exp2 is two to five times as fast as its exp.
LOG2_E = 1 / math.log(2)
# Scores that are in work at once: few enough to stay in the processor's cache.
_SCORES = 1 << 20
# Values that torch computes in one step of a loop, and those from which on it uses another thread.
_VECTOR, _GRAIN = 64, 32768
# Sums of exponentials outside are too near the ends of the number range to be trusted.
_LEAST_SUM, _LARGEST_SUM = 2.0**-60, 2.0**120


def project(inputs: Tensor, layer: nn.Linear) -> Tensor:
    """The linear ``layer`` of ``inputs``, shape (..., layer.out_features)."""
    if not _has_onednn(inputs):
        return layer(inputs)  # type: ignore[no-any-return]
    return _onednn()(inputs, layer.weight, layer.bias, "none", [], "")  # type: ignore[no-any-return]


def project_gelu(inputs: Tensor, layer: nn.Linear) -> Tensor:
    """The exact GELU of the linear ``layer`` of ``inputs``."""
    if not _has_onednn(inputs):
        return gelu(layer(inputs))
    return _onednn()(inputs, layer.weight, layer.bias, "gelu", [], "none")  # type: ignore[no-any-return]


def project_onto(hidden: Tensor, inputs: Tensor, layer: nn.Linear) -> Tensor:
    """``hidden`` plus the linear ``layer`` of ``inputs``."""
    if not _has_onednn(inputs):
        return hidden + layer(inputs)  # type: ignore[no-any-return]
    return _onednn().binary(inputs, hidden, layer.weight, layer.bias, "add")  # type: ignore[no-any-return]


def attend_in_cache(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Attention of every token to every token of its text, a few texts at a time.

    The weights are 2^score / sum 2^score, scores in units of log(2). The sum is a column of the
    product with the values, which get a column of ones for it; no maximum is subtracted, because
    a softmax does not change by it as long as the exponentials stay within the number range.
    Where they do not, the text is computed again by torch's own attention.

    Parameters
    ----------
    query, key, value
        Shape (batch, tokens, heads, head_dim).
    bias
        Added to the scores, shape (heads, tokens, tokens), times `LOG2_E`.

    Returns
    -------
    Tensor
        Shape (batch, tokens, heads * head_dim).
    """
    batch, tokens, heads, head_dim = value.shape
    summed = value.new_ones(batch, heads, tokens, head_dim + 1)
    summed[..., :head_dim].copy_(value.transpose(1, 2))
    queries, keys = query.transpose(1, 2), key.permute(0, 2, 3, 1)
    mixed = value.new_empty(batch, tokens, heads, head_dim)
    sums = value.new_empty(batch, heads, tokens, 1)
    texts = max(1, min(batch, _SCORES // (heads * tokens * tokens)))
    added = value.new_empty(1) if bias is None else bias.repeat(texts, 1, 1)
    space = value.new_zeros(_in_whole_vectors(texts * heads * tokens * tokens))
    for start in range(0, batch, texts):
        now = slice(start, start + texts)
        shape = (len(queries[now]) * heads, tokens, tokens)
        weights = space[: math.prod(shape)].view(shape)
        torch.baddbmm(
            added if bias is None else added[: shape[0]],
            queries[now].flatten(0, 1),
            keys[now].flatten(0, 1),
            beta=0 if bias is None else 1,
            alpha=LOG2_E / math.sqrt(head_dim),
            out=weights,
        )
        space.exp2_()
        # In fp32: dividing rows of a few bf16 values by one each is slow.
        products = torch.bmm(weights, summed[now].flatten(0, 1)).float()
        products = products.view(-1, heads, tokens, head_dim + 1)
        sums[now] = products[..., head_dim:]
        mixed[now].transpose(1, 2).copy_(products[..., :head_dim].div_(products[..., head_dim:]))
    for text in _out_of_range(sums):
        mixed[text] = _attend_by_torch(query[text], key[text], value[text], bias)
    return mixed.flatten(2)


def _in_whole_vectors(values: int) -> int:
    """The least number from ``values`` on that torch's threads share in whole vectors.

    torch computes what is left of a thread's share by another exponential, and the results would
    depend on the number of threads.
    """
    vectors = -(-values // _VECTOR)
    while vectors % (threads := min(torch.get_num_threads(), -(-vectors * _VECTOR // _GRAIN))):
        vectors += threads - vectors % threads
    return vectors * _VECTOR


def _out_of_range(sums: Tensor) -> list[int]:
    """Texts whose sums of exponentials overflowed or vanished."""
    # Written so that a sum which is not a number is out of range too.
    trusted = (sums > _LEAST_SUM) & (sums < _LARGEST_SUM)
    outside: list[int] = (~trusted.flatten(1).all(1)).nonzero().flatten().tolist()
    return outside


def _attend_by_torch(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """One text, each part (tokens, heads, head_dim), by torch's attention."""
    query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
    scores = None if bias is None else (bias / LOG2_E)[None]
    return scaled_dot_product_attention(query, key, value, attn_mask=scores)[0].transpose(0, 1)


def _has_onednn(inputs: Tensor) -> bool:
    # oneDNN's product has no gradient; outside of inference the plain layer computes.
    return torch.is_inference_mode_enabled() and inputs.device.type == "cpu" and _AVAILABLE


def _onednn() -> torch._ops.OpOverloadPacket:
    """The product with a fused end that torch.compile uses on CPUs."""
    return torch.ops.mkldnn._linear_pointwise


_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
    torch.ops.mkldnn, "_linear_pointwise"
)
