"""Attention as both encoders use it: no mask, rotary positions or an ALiBi bias."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Fused attention on a GPU wants a bias whose rows start at multiples of 8 values. Tables are
# built for a multiple of 64 tokens, so that they grow seldom, and cut to the length asked for.
_TABLE_STEP = 64


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of every token to every token of its text, (batch, tokens, heads * head_dim).

    ``query``, ``key`` and ``value`` are (batch, tokens, heads, head_dim); ``bias``, which is added
    to the scores, (1, heads, tokens, tokens).
    """
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return mixed.transpose(1, 2).flatten(2)


def inverse_frequencies(head_dim: int) -> Tensor:
    """Rotations per token of each pair of a head's values, fp32, shape (head_dim / 2).

    10,000^(-2i/head_dim), from RoFormer (Su et al. 2021, https://arxiv.org/abs/2104.09864).
    """
    return 1.0 / (10000 ** (torch.arange(0, head_dim, 2).float() / head_dim))


# Threads share tables: each takes one that it has itself seen to be large enough.


class RotaryTables:
    """Cosines and sines of the rotary positions, fp32, kept for the longest text seen."""

    def __init__(self) -> None:
        self._tables: tuple[Tensor, Tensor] | None = None

    def up_to(self, tokens: int, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions 0 to ``tokens`` - 1, each (tokens, head_dim / 2)."""
        tables = self._tables
        if tables is None or len(tables[0]) < tokens:
            positions = torch.arange(_rounded(tokens), device=frequencies.device)
            angles = torch.outer(positions.float(), frequencies.float())
            tables = self._tables = (angles.cos(), angles.sin())
        return tables[0][:tokens], tables[1][:tokens]


def rotate(parts: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn queries or keys, (batch, tokens, heads, head_dim), by their positions, in fp32.

    Value i of a head pairs with i + head_dim / 2; ``cosines``, ``sines``: (tokens, head_dim / 2).
    """
    cosines, sines = cosines[:, None], sines[:, None]
    first, second = parts.float().chunk(2, dim=-1)
    turned = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat(turned, dim=-1).to(parts.dtype)


def alibi_slopes(heads: int) -> list[float]:
    """Slopes of ALiBi (Press et al. 2022, https://arxiv.org/abs/2108.12409), one a head.

    For a power of two, heads get 2^(-8/heads), its square, and so on. Otherwise the largest
    power of two below comes first, and every second slope of the next power of two fills up.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * head / below) for head in range(1, below + 1)]
    between = [2 ** (-4 * head / below) for head in range(1, 2 * below, 2)]
    return slopes + between[: heads - below]


class AlibiBias:
    """The bias -slope * |i - j|, times ``unit``, kept for the longest text seen."""

    def __init__(self, heads: int, unit: float = 1.0) -> None:
        # Modules are built on the meta device, and this is no weight that would follow.
        self._slopes = torch.tensor(alibi_slopes(heads), device="cpu") * unit
        self._bias: Tensor | None = None

    def up_to(self, tokens: int, like: Tensor) -> Tensor:
        """Bias for texts of ``tokens`` tokens, shape (1, heads, tokens, tokens).

        Computed in fp32, then moved to the device of ``like`` and rounded once to its type.
        """
        bias = self._bias
        if bias is None or bias.shape[-1] < tokens:
            positions = torch.arange(_rounded(tokens)).float()
            distance = (positions[:, None] - positions).abs()
            bias = self._bias = (-self._slopes[None, :, None, None] * distance).to(like)
        return bias[..., :tokens, :tokens]


def _rounded(tokens: int) -> int:
    return -(-tokens // _TABLE_STEP) * _TABLE_STEP
