"""DNABERT-S: a frame's DNA → the mean of all its tokens' last hidden states.

The architecture of DNABERT-2 (Zhou et al. 2024, https://arxiv.org/abs/2306.15006), an ALiBi bias
for positions, a gated perceptron and layer norms after each step, with the weights of DNABERT-S
(https://arxiv.org/abs/2402.08777). No remote code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from torch.nn.functional import gelu

from virnuc_dask.checks import checked
from virnuc_dask.encoders.attention import AlibiBias, attend
from virnuc_dask.encoders.encoder import EncoderSpec, Placement, Size
from virnuc_dask.encoders.kernels import LOG2_E, Products, attend_in_cache, products_for
from virnuc_dask.encoders.transformer import Transformer, TransformerEncoder
from virnuc_dask.encoders.weights import EncoderSizes, load_module, read_sizes
from virnuc_dask.errors import ModelSetError

_BEGIN, _END = "[CLS]", "[SEP]"
_LARGEST_TOKENIZER = 1 << 26  # bytes
_MODEL_KEYS = {"type", "vocab", "merges", "unk_token"}
_TOKENIZER_PARTS = {
    "normalizer": (None,),
    "pre_tokenizer": (None, "Whitespace", "WhitespaceSplit"),
    "model": ("BPE",),
    "post_processor": ("TemplateProcessing",),
}


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``; texts are neither cut nor padded, whatever it says.

    Of the file only what a tokenizer of DNA is made of is used: byte pairs, between ``[CLS]`` and
    ``[SEP]``. Other parts hold patterns, and a pattern can be such that one text takes for ever.

    Raises
    ------
    ModelSetError
        If the file is missing, is no tokenizer, or has other parts.
    """
    # Batches are split over a few dask threads already; and only when this is set does the
    # tokenizer not print warnings in processes that fork later.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if path.stat().st_size > _LARGEST_TOKENIZER:
            raise ValueError("too large for a tokenizer of DNA")
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_parts(content)
        tokenizer = _built(content)
        around = [(token, tokenizer.token_to_id(token)) for token in (_BEGIN, _END)]
        tokenizer.post_processor = TemplateProcessing(f"{_BEGIN} $A {_END}", special_tokens=around)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelSetError(
            f"{path}: not a tokenizer of DNA ({error}). Import or download the model set again."
        ) from error
    return tokenizer


def _built(content: dict[str, Any]) -> Tokenizer:
    """The tokenizer of these parts, without those that are not used; or a `ValueError`."""
    unused = dict.fromkeys(("decoder", "padding", "post_processor", "truncation"))
    try:
        return Tokenizer.from_str(json.dumps(content | unused))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(str(error)) from error


def _check_parts(content: Mapping[str, Any]) -> None:
    """Refuse, by a `ValueError`, parts that a tokenizer of DNA does not have."""
    for part, kinds in _TOKENIZER_PARTS.items():
        kind = (content.get(part) or {}).get("type")
        if kind not in kinds:
            raise ValueError(f"its {part} is {kind!r}")
    # Published tokenizers have none of these; dropout would make results random, a prefix that
    # does not fit the merges crashes the library.
    if set_here := [key for key, v in content["model"].items() if v and key not in _MODEL_KEYS]:
        raise ValueError(f"its model has a {set_here[0]}")
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    if any("".join(pair) not in vocabulary for pair in pairs):  # crashes the library too
        raise ValueError("it merges tokens to what is none")
    template = content["post_processor"]["single"]
    if [piece["id"] for place in template for piece in place.values()] != [_BEGIN, "A", _END]:
        raise ValueError("it does not put a text between [CLS] and [SEP]")


@checked
class DnabertSSizes(EncoderSizes):
    """The sizes of a DNABERT-S; the published one is 12 x 768, 12 heads, 3072, 4096 tokens."""

    mlp_dim: Size
    vocabulary: Size
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-12


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


class DnabertSModule(Transformer):
    """The transformer in plain torch."""

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


class DnabertSOnCpu(Transformer):
    """The same transformer by `kernels`, with the weights of ``module``."""

    def __init__(self, module: DnabertSModule, products: Products) -> None:
        super().__init__()
        self._products = products
        self.embedding, self.token_type = module.embedding, module.token_type
        self.norm = module.norm
        layers = cast(Iterable[DnabertSLayer], module.layers)
        self.layers = nn.ModuleList(_CpuLayer(layer, products) for layer in layers)
        self._alibi = AlibiBias(module.sizes.heads, unit=LOG2_E)

    def hidden_states(self, tokens: Tensor) -> Iterator[Tensor]:
        """As of `DnabertSModule`."""
        hidden = self.norm(self.embedding(tokens) + self.token_type)
        bias = self._alibi.up_to(tokens.shape[1], hidden)[0]
        yield hidden
        for layer in cast(Iterable[_CpuLayer], self.layers):
            qkv = self._products.linear(hidden, layer.qkv)
            query, key, value = qkv.view(*qkv.shape[:2], 3, layer.heads, -1).unbind(2)
            mixed = attend_in_cache(query, key, value, bias)
            mixed = self._products.linear_onto(hidden, mixed, layer.attention_out)
            hidden = layer.attention_norm(mixed)
            inner = self._products.linear_gelu(hidden, layer.gate)
            inner = inner.mul_(self._products.linear(hidden, layer.up))
            hidden = layer.mlp_norm(self._products.linear_onto(hidden, inner, layer.down))
            yield hidden


class _CpuLayer(nn.Module):
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


class DnabertS(TransformerEncoder):
    """Embeds upper-case DNA with a DNABERT-S."""

    def __init__(self, module: DnabertSModule, tokenizer: Tokenizer, placement: Placement) -> None:
        used: Transformer = module
        if placement.device == "cpu":
            products = products_for(placement.kernels, placement.dtype, pack=False)
            used = DnabertSOnCpu(module, products)
        super().__init__(used, module.sizes.embed_dim, placement)
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read weights and tokenizer; `ModelSetError` if they are not what ``spec`` says."""
        sizes = read_sizes(spec, DnabertSSizes)
        tokenizer = read_tokenizer(folder / (spec.tokenizer or "tokenizer.json"))
        tokens = tokenizer.get_vocab().values()
        if max([*tokens, *tokenizer.encode("ACGTN").ids], default=0) >= sizes.vocabulary:
            raise ModelSetError(
                f"{folder}: its tokenizer has more tokens than its weights. "
                "Import or download the model set again."
            )
        if placement.precision == "fp8":
            # Beside ESM-2 3B it is little work: not worth 8 bits, nor a bias rounded to bf16.
            placement = replace(placement, precision="fp16")
        module = load_module(lambda: DnabertSModule(sizes), folder / spec.file, placement)
        return cls(module, tokenizer, placement)

    def tokenise(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """Token ids of each DNA, begin and end included."""
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return [np.array(encoding.ids, np.int64) for encoding in encodings]

    def pool(self, hidden: Tensor) -> Tensor:
        """The mean of all tokens, begin and end too."""
        return hidden.mean(1, dtype=torch.float32)
