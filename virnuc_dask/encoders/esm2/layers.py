"""ESM-2: peptides → the mean of their residues' last hidden states.

Only what an embedding needs: no language-model head, no contact head, no mask, no padding.
Sizes, weights and alphabet are fair-esm's (Lin et al. 2023,
https://doi.org/10.1126/science.ade2574).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import esm
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu

from virnuc_dask.checks import checked
from virnuc_dask.encoders.attention import RotaryTables, attend, rotate
from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.fp8 import Fp8Linear, check_gpu
from virnuc_dask.encoders.kernels import products_for
from virnuc_dask.encoders.transformer import TransformerEncoder
from virnuc_dask.encoders.weights import EncoderSizes, load_module, read_sizes

ALPHABET = esm.Alphabet.from_architecture("ESM-1b")
# In training 15 % of the tokens were hidden, 80 % of those as zeros; at inference all tokens are
# shown, and their embeddings shrink to keep the sum. The published features were made so.
TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8
# Bytes that no ASCII text has.
_BEGIN, _END = 128, 129


@checked
class Esm2Sizes(EncoderSizes):
    """The sizes of an ESM-2; the published ones run from 6 x 320 (8M) to 48 x 5120 (15B)."""

    token_dropout: bool = True


class Esm2(TransformerEncoder):
    """Embeds peptides with an ESM-2."""

    def __init__(self, module: Esm2Module, placement: Placement) -> None:
        # Imported here: that module is made from this one.
        from virnuc_dask.encoders.esm2.cpu import Esm2OnCpu

        dim = module.sizes.embed_dim
        if placement.device == "cpu":
            products = products_for(placement.kernels, placement.dtype)
            super().__init__(Esm2OnCpu(module, products), dim, placement)
        else:
            super().__init__(module, dim, placement)

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


class Esm2Module(nn.Module):
    """The transformer: token ids (batch, tokens), begin and end included → hidden states."""

    inverse_frequencies: Tensor

    def __init__(self, sizes: Esm2Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(len(ALPHABET), sizes.embed_dim)
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

    def forward(self, tokens: Tensor) -> Tensor:
        """Last hidden states after the final layer norm, (batch, tokens, embed_dim)."""
        for hidden in self.hidden_states(tokens):
            last = hidden
        return last

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


def token_ids(peptide: str) -> NDArray[np.int64]:
    """Token ids with begin and end, shape (len(peptide) + 2); an unknown letter is ``<unk>``."""
    letters = np.frombuffer(peptide.encode("ascii", "replace"), np.uint8)
    return _TOKEN_OF_BYTE[np.concatenate(([_BEGIN], letters, [_END]))]


def _token_of_byte() -> NDArray[np.int64]:
    lookup = np.full(256, ALPHABET.unk_idx, np.int64)
    for token, index in ALPHABET.to_dict().items():
        if len(token) == 1:
            lookup[ord(token)] = index
    lookup[_BEGIN], lookup[_END] = ALPHABET.cls_idx, ALPHABET.eos_idx
    return lookup


_TOKEN_OF_BYTE = _token_of_byte()
