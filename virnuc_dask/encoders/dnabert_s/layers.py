"""DNABERT-S: a frame's DNA → the mean of all its tokens' last hidden states.

The architecture of DNABERT-2 (Zhou et al. 2024, https://arxiv.org/abs/2306.15006) with the
weights of DNABERT-S (https://arxiv.org/abs/2402.08777): no position embeddings but an ALiBi
bias, a gated perceptron, layer norms after each step. Plain torch; no remote code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

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
from virnuc_dask.encoders.kernels import products_for
from virnuc_dask.encoders.transformer import TransformerEncoder
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


@checked
class DnabertSSizes(EncoderSizes):
    """The sizes of a DNABERT-S; the published one is 12 x 768, 12 heads, 3072, 4096 tokens."""

    mlp_dim: Size
    vocabulary: Size
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-12


class DnabertS(TransformerEncoder):
    """Embeds upper-case DNA with a DNABERT-S."""

    def __init__(self, module: DnabertSModule, tokenizer: Tokenizer, placement: Placement) -> None:
        # Imported here: that module is made from this one.
        from virnuc_dask.encoders.dnabert_s.cpu import DnabertSOnCpu

        dim = module.sizes.embed_dim
        if placement.device == "cpu":
            products = products_for(placement.kernels, placement.dtype, pack=False)
            super().__init__(DnabertSOnCpu(module, products), dim, placement)
        else:
            super().__init__(module, dim, placement)
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
        return [
            np.array(encoding.ids, np.int64)
            for encoding in self.tokenizer.encode_batch_fast(list(texts))
        ]

    def pool(self, hidden: Tensor) -> Tensor:
        """The mean of all tokens, begin and end too."""
        return hidden.mean(1, dtype=torch.float32)


class DnabertSModule(nn.Module):
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

    def forward(self, tokens: Tensor) -> Tensor:
        """Last hidden states, shape (batch, tokens, embed_dim)."""
        for hidden in self.hidden_states(tokens):
            last = hidden
        return last

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
        unused = dict.fromkeys(("decoder", "padding", "post_processor", "truncation"))
        tokenizer = Tokenizer.from_str(json.dumps(content | unused))
        around = [(token, tokenizer.token_to_id(token)) for token in (_BEGIN, _END)]
        tokenizer.post_processor = TemplateProcessing(f"{_BEGIN} $A {_END}", special_tokens=around)
    except BaseException as error:  # tokenizers raises nothing narrower, and this where it crashes
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelSetError(
            f"{path}: not a tokenizer of DNA ({error}). Import or download the model set again."
        ) from error
    return tokenizer


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
    template = content["post_processor"]["single"]
    if [piece["id"] for place in template for piece in place.values()] != [_BEGIN, "A", _END]:
        raise ValueError("it does not put a text between [CLS] and [SEP]")
