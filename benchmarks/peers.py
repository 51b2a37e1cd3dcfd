"""What our encoders are compared with, on the same weights: fair-esm, transformers, plain torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import esm
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, softmax
from transformers import EsmConfig, EsmModel

from virnuc_dask.encoders.attention import alibi_slopes
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import token_ids
from virnuc_dask.modelsets.importing.encoders import FAIR_ESM_LAYER, HUGGING_FACE_ESM_LAYER

ALPHABET = esm.Alphabet.from_architecture("ESM-1b")
PUBLISHED_MAX_TOKENS = 2048
Embeddings = NDArray[np.float32]


class FairEsm:
    """ESM-2 by fair-esm's own class, called as the published tool calls it.

    fp32, batches of at most 2,048 tokens from its own dataset class, padded; the mean of each
    text's residues by a loop.
    """

    def __init__(self, spec: EncoderSpec, folder: Path, device: str) -> None:
        config = spec.config
        self.model = esm.ESM2(config["layers"], config["embed_dim"], config["heads"])
        _fill(
            self.model,
            fair_esm_names(load_file(folder / spec.file)),
            others=("lm_head.", "contact_head."),
        )
        self.model.eval().to(device)
        self.device = device

    @torch.no_grad()
    def embed(self, peptides: Sequence[str]) -> Embeddings:
        """Embeddings of ``peptides``, shape (len(peptides), dim)."""
        labels = [str(number) for number in range(len(peptides))]
        dataset = esm.FastaBatchedDataset(labels, list(peptides))
        convert, layer = self.model.alphabet.get_batch_converter(), self.model.num_layers
        rows: dict[str, Tensor] = {}
        for batch in dataset.get_batch_indices(PUBLISHED_MAX_TOKENS, extra_toks_per_seq=1):
            names, texts, tokens = convert([dataset[index] for index in batch])
            result = self.model(tokens.to(self.device), repr_layers=[layer])
            last = result["representations"][layer].cpu()
            for name, text, hidden in zip(names, texts, last, strict=True):
                rows[name] = hidden[1 : len(text) + 1].mean(0).clone()
        return torch.stack([rows[label] for label in labels]).numpy()


class Transformers:
    """ESM-2 by transformers' `EsmModel` with SDPA, in whole batches of texts of one length."""

    def __init__(
        self, spec: EncoderSpec, folder: Path, device: str, precision: str, max_tokens: int = 4096
    ) -> None:
        dim = spec.config["embed_dim"]
        config = EsmConfig(
            vocab_size=len(ALPHABET),
            mask_token_id=ALPHABET.mask_idx,
            pad_token_id=ALPHABET.padding_idx,
            hidden_size=dim,
            num_hidden_layers=spec.config["layers"],
            num_attention_heads=spec.config["heads"],
            intermediate_size=4 * dim,
            position_embedding_type="rotary",
            layer_norm_eps=1e-5,
            token_dropout=True,
            attn_implementation="sdpa",
        )
        self.model = EsmModel(config, add_pooling_layer=False)
        _fill(
            self.model, transformers_names(load_file(folder / spec.file)), others=("contact_head.",)
        )
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self.model.eval().to(device, dtype)
        self.device, self.max_tokens = device, max_tokens

    @torch.inference_mode()
    def embed(self, peptides: Sequence[str]) -> Embeddings:
        """Embeddings of ``peptides``, shape (len(peptides), dim)."""
        found = np.empty((len(peptides), self.model.config.hidden_size), np.float32)
        lengths = np.array([len(peptide) for peptide in peptides])
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            texts = max(1, self.max_tokens // int(length + 2))
            for part in np.split(rows, range(texts, len(rows), texts)):
                ids = torch.from_numpy(np.stack([token_ids(peptides[row]) for row in part]))
                found[part] = self._embed_batch(ids.to(self.device))
        return found

    def _embed_batch(self, ids: Tensor) -> Embeddings:
        last = self.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        embeddings: Embeddings = last[:, 1:-1].mean(1, dtype=torch.float32).cpu().numpy()
        return embeddings


class PlainDnabertS:
    """DNABERT-S by its published formulas in plain torch: fp32, one sequence at a time.

    That is how the published tool runs it. Attention is written out: scores, bias, softmax.
    """

    def __init__(self, spec: EncoderSpec, folder: Path, device: str) -> None:
        tensors = load_file(folder / spec.file)
        self.weights = {name: tensor.to(device) for name, tensor in tensors.items()}
        self.tokenizer = Tokenizer.from_file(str(folder / str(spec.tokenizer)))
        self.config, self.device = spec.config, device

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings of ``texts``, shape (len(texts), dim)."""
        return np.stack([self._embed_one(text) for text in texts])

    def _embed_one(self, text: str) -> Embeddings:
        ids = torch.tensor([self.tokenizer.encode(text).ids], device=self.device)
        weights = self.weights
        hidden = embedding(ids, weights["embedding.weight"]) + weights["token_type"]
        hidden = self._normed(hidden, "norm")
        positions = torch.arange(ids.shape[1], device=self.device)
        distance = (positions[:, None] - positions[None, :]).abs().float()
        slopes = torch.tensor(alibi_slopes(self.config["heads"]), device=self.device)
        bias = -slopes[None, :, None, None] * distance
        for layer in range(self.config["layers"]):
            hidden = self._layer(hidden, bias, f"layers.{layer}")
        embedded: Embeddings = hidden[0].mean(0).cpu().numpy()
        return embedded

    def _layer(self, hidden: Tensor, bias: Tensor, name: str) -> Tensor:
        parts = self._linear(hidden, f"{name}.qkv").unflatten(-1, (3, self.config["heads"], -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        mixed = (softmax(scores, -1) @ value).transpose(1, 2).flatten(2)
        attended = hidden + self._linear(mixed, f"{name}.attention_out")
        hidden = self._normed(attended, f"{name}.attention_norm")
        gate, up = linear(hidden, self.weights[f"{name}.gate_and_up.weight"]).chunk(2, dim=-1)
        return self._normed(
            hidden + self._linear(gelu(gate) * up, f"{name}.down"), f"{name}.mlp_norm"
        )

    def _linear(self, values: Tensor, name: str) -> Tensor:
        return linear(values, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _normed(self, values: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return layer_norm(values, weight.shape, weight, bias, self.config["layer_norm_eps"])


def fair_esm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of an ESM-2 under fair-esm's names."""
    found = _published(tensors, FAIR_ESM_LAYER, "layers.{}", "self_attn.{}_proj", "qkv")
    found["embed_tokens.weight"] = tensors["embedding.weight"]
    for kind in ("weight", "bias"):
        found[f"emb_layer_norm_after.{kind}"] = tensors[f"norm.{kind}"]
    for layer in range(_layers(tensors)):
        name = f"layers.{layer}.self_attn.rot_emb.inv_freq"
        found[name] = tensors["inverse_frequencies"]
    return found


def transformers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of an ESM-2 under the names of transformers."""
    parts = ("query", "key", "value")
    found = _published(
        tensors, HUGGING_FACE_ESM_LAYER, "encoder.layer.{}", "attention.self.{}", parts
    )
    found["embeddings.word_embeddings.weight"] = tensors["embedding.weight"]
    for kind in ("weight", "bias"):
        found[f"encoder.emb_layer_norm_after.{kind}"] = tensors[f"norm.{kind}"]
    return found


def _published(
    tensors: Mapping[str, Tensor],
    names: Mapping[str, str],
    layer_name: str,
    part_name: str,
    parts: Sequence[str],
) -> dict[str, Tensor]:
    found = {}
    for layer in range(_layers(tensors)):
        theirs, ours = layer_name.format(layer), f"layers.{layer}"
        for kind in ("weight", "bias"):
            for name, part in names.items():
                found[f"{theirs}.{name}.{kind}"] = tensors[f"{ours}.{part}.{kind}"]
            split = tensors[f"{ours}.qkv.{kind}"].chunk(3)
            for name, tensor in zip(parts, split, strict=True):
                found[f"{theirs}.{part_name.format(name)}.{kind}"] = tensor
    return found


def _layers(tensors: Mapping[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))


def _fill(model: torch.nn.Module, tensors: Mapping[str, Tensor], others: tuple[str, ...]) -> None:
    """Load all of ``tensors``; only parameters that start with ``others`` may keep their own."""
    missing, unexpected = model.load_state_dict(dict(tensors), strict=False)
    left = [n for n in missing if not n.startswith(others) and not n.endswith("inv_freq")]
    if left or unexpected:
        raise ValueError(f"weights do not fit: missing {left}, unexpected {list(unexpected)}")
