"""ESM-2's transformer in plain torch.

Only what an embedding needs: no language-model head, no contact head, no mask, no padding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from virnuc_dask.checks import checked
from virnuc_dask.encoders.attention import RotaryTables, attend, rotate
from virnuc_dask.encoders.esm2.tokens import TOKENS
from virnuc_dask.encoders.fp8 import Fp8Linear
from virnuc_dask.encoders.transformer import Transformer
from virnuc_dask.encoders.weights import EncoderSizes

# In training 15 % of the tokens were hidden, 80 % of those as zeros; at inference all tokens are
# shown, and their embeddings shrink to keep the sum. The published features were made so.
TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8


@checked
class Esm2Sizes(EncoderSizes):
    """The sizes of an ESM-2; the published ones run from 6 x 320 (8M) to 48 x 5120 (15B)."""

    token_dropout: bool = True


class Esm2Module(Transformer):
    """The transformer: token ids (batch, tokens), begin and end included → hidden states."""

    inverse_frequencies: Tensor

    def __init__(self, sizes: Esm2Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(len(TOKENS), sizes.embed_dim)
        self.layers = nn.ModuleList(Esm2Layer(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.embed_dim)
        # From the checkpoint, not computed: published ones were trained in half precision and
        # carry frequencies rounded to it. Held by tests/encoders/test_esm2.py.
        pairs = sizes.embed_dim // sizes.heads // 2
        self.register_buffer("inverse_frequencies", torch.empty(pairs))
        self._rotary = RotaryTables()

    def multiply_in_8_bits(self) -> None:
        """Replace each layer's weights, one by one, by the same in 8 bits."""
        for layer in self.layers:
            for name in ("qkv", "attention_out", "up", "down"):
                setattr(layer, name, Fp8Linear.of(getattr(layer, name)))

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output, the last one normalised."""
        rotary = self._rotary.up_to(tokens.shape[1], self.inverse_frequencies)
        hidden = self.embedding(tokens)
        if self.sizes.token_dropout:
            hidden = hidden * TOKEN_DROPOUT_SCALE
        for layer in self.layers:
            yield hidden
            hidden = layer(hidden, rotary)
        yield self.norm(hidden)


class Esm2Layer(nn.Module):
    """Attention, then a multi-layer perceptron, each on normalised input and added to it."""

    def __init__(self, sizes: Esm2Sizes) -> None:
        super().__init__()
        dim = sizes.embed_dim
        self.heads = sizes.heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Hidden states (batch, tokens, embed_dim) → the same, one layer on."""
        hidden = hidden + self._attention(self.attention_norm(hidden), rotary)
        return hidden + self.down(gelu(self.up(self.mlp_norm(hidden))))  # type: ignore[no-any-return]

    def _attention(self, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = self.qkv(hidden).unflatten(-1, (3, self.heads, -1)).unbind(2)
        mixed = attend(rotate(query, *rotary), rotate(key, *rotary), value)
        return self.attention_out(mixed)  # type: ignore[no-any-return]
