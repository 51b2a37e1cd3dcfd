"""ESM-2: peptides → the mean of their residues' last hidden states.

Sizes, weights and tokens are fair-esm's (Lin et al. 2023,
https://doi.org/10.1126/science.ade2574). Only what an embedding needs: no language-model head, no
contact head, no mask, no padding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu

from virnuc_dask.checks import checked
from virnuc_dask.encoders.attention import RotaryTables, attend, rotate
from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.fp8 import Fp8Linear, check_gpu
from virnuc_dask.encoders.kernels import Products, attend_in_cache, products_for
from virnuc_dask.encoders.transformer import Transformer, TransformerEncoder
from virnuc_dask.encoders.weights import EncoderSizes, load_module, read_sizes

_BEGIN, _END, _UNKNOWN = "<cls>", "<eos>", "<unk>"
TOKENS = (_BEGIN, "<pad>", _END, _UNKNOWN, *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
"""A token's number is its place here: fair-esm's alphabet ESM-1b."""
_OF_BYTE = np.full(256, TOKENS.index(_UNKNOWN))
for _place, _token in enumerate(TOKENS):
    if len(_token) == 1:
        _OF_BYTE[ord(_token)] = _place

_LINEARS = ("qkv", "attention_out", "up", "down")
# In training 15 % of the tokens were hidden, 80 % of those as zeros; at inference all tokens are
# shown, and their embeddings shrink to keep the sum. The published features were made so.
_TOKEN_DROPOUT_SCALE = 1 - 0.15 * 0.8


def token_ids(peptide: str) -> NDArray[np.int64]:
    """Token ids with begin and end, shape (len(peptide) + 2); an unknown letter is ``<unk>``."""
    letters = np.frombuffer(peptide.encode("ascii", "replace"), np.uint8)
    return np.concatenate([[TOKENS.index(_BEGIN)], _OF_BYTE[letters], [TOKENS.index(_END)]])


@checked
class Esm2Sizes(EncoderSizes):
    """The sizes of an ESM-2; the published ones run from 6 x 320 (8M) to 48 x 5120 (15B)."""

    token_dropout: bool = True


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


class Esm2Module(Transformer):
    """The transformer in plain torch."""

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
            for name in _LINEARS:
                setattr(layer, name, Fp8Linear(getattr(layer, name)))

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the token embeddings, then each layer's output, the last one normalised."""
        rotary = self._rotary.up_to(tokens.shape[1], self.inverse_frequencies)
        hidden = self.embed(tokens)
        for layer in self.layers:
            yield hidden
            hidden = layer(hidden, rotary)
        yield self.norm(hidden)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings, as the first layer takes them."""
        hidden: Tensor = self.embedding(tokens)
        return hidden * _TOKEN_DROPOUT_SCALE if self.sizes.token_dropout else hidden


class Esm2OnCpu(Esm2Module):
    """The same transformer by `kernels`; queries and keys turn as complex numbers.

    Rotary positions pair value i of a head with value i + head_dim / 2. Where the rows of the
    query and key weights are put in that order, each pair lies side by side and is one complex
    number; turning it by its position is one multiplication. The scores stay the same, because
    queries and keys are put in the same order.
    """

    def __init__(self, module: Esm2Module, products: Products) -> None:
        Transformer.__init__(self)
        self._products = products
        self.sizes = module.sizes
        self.embedding, self.norm = module.embedding, module.norm
        layers = cast(Iterable[Esm2Layer], module.layers)
        self.layers = nn.ModuleList(_arranged(layer, products) for layer in layers)
        self.register_buffer("inverse_frequencies", module.inverse_frequencies)
        self._rotary = RotaryTables()
        self._turns: Tensor | None = None

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """As of `Esm2Module`."""
        turns = self._turns_up_to(tokens.shape[1])
        hidden = self.embed(tokens)
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
    arranged.qkv = _with_paired_rotations(layer)
    for name in _LINEARS:
        setattr(arranged, name, products.prepared(getattr(arranged, name)))
    return arranged


def _with_paired_rotations(layer: Esm2Layer) -> nn.Linear:
    dim = layer.qkv.in_features
    rows = torch.arange(2 * dim).view(2 * layer.heads, 2, -1).transpose(1, 2).flatten()
    rows = torch.cat([rows, torch.arange(2 * dim, 3 * dim)])
    paired = nn.Linear(dim, 3 * dim, device="meta")
    paired.weight = nn.Parameter(layer.qkv.weight[rows], requires_grad=False)
    paired.bias = nn.Parameter(layer.qkv.bias[rows], requires_grad=False)
    return paired


class Esm2(TransformerEncoder):
    """Embeds peptides with an ESM-2."""

    def __init__(self, module: Esm2Module, placement: Placement) -> None:
        if placement.device == "cpu":
            module = Esm2OnCpu(module, products_for(placement.kernels, placement.dtype))
        super().__init__(module, module.sizes.embed_dim, placement)

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
        """Token ids of each peptide; `ValueError` if one is empty: it has no mean."""
        if not all(texts):
            raise ValueError("an empty peptide has no embedding")
        return [token_ids(text) for text in texts]

    def pool(self, hidden: Tensor) -> Tensor:
        """The mean of the residues, begin and end left out."""
        return hidden[:, 1:-1].mean(1, dtype=torch.float32)
