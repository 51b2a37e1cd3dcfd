"""The two encoders' published checkpoints → our tensors, renamed and regrouped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from virnuc_dask.checks import build
from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes, read_tokenizer
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import TOKENS, Esm2Module, Esm2Sizes
from virnuc_dask.encoders.weights import EncoderSizes
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.checkpoints import (
    Inert,
    Published,
    check_tensors,
    read_checkpoint,
    read_folder,
    read_json,
)

# Classes that fair-esm's files name besides tensors.
ESM2_CLASSES = ("argparse.Namespace",)

# Published name → ours, for the parts of one layer.
FAIR_ESM_LAYER = {
    "self_attn_layer_norm": "attention_norm",
    "self_attn.out_proj": "attention_out",
    "final_layer_norm": "mlp_norm",
    "fc1": "up",
    "fc2": "down",
}
HUGGING_FACE_ESM_LAYER = {
    "attention.LayerNorm": "attention_norm",
    "attention.output.dense": "attention_out",
    "LayerNorm": "mlp_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
}
DNABERT_S_LAYER = {
    "attention.self.Wqkv": "qkv",
    "attention.output.dense": "attention_out",
    "attention.output.LayerNorm": "attention_norm",
    "mlp.wo": "down",
    "mlp.layernorm": "mlp_norm",
}

STORED = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_EXACT = "inverse_frequencies"  # no weight: rounded, it turns the rotary embedding

Sizes = TypeVar("Sizes", bound=EncoderSizes)


def import_dnabert_s(source: Path, folder: Path, weights: str | None = None) -> EncoderSpec:
    """Write ``nucleotide.safetensors`` and ``tokenizer.json`` from a Hugging Face folder.

    ``weights`` is what they are stored in, one of `STORED`; None leaves them as they are.

    Raises
    ------
    ModelSetError
        If the folder is not a DNABERT-S.
    """
    sizes = _dnabert_s_sizes(source / "config.json")
    published = read_folder(source).without_prefix("bert.")
    tensors = _layers(published, "encoder.layer.{}", DNABERT_S_LAYER, sizes.layers)
    for layer in range(sizes.layers):
        gated = published[f"encoder.layer.{layer}.mlp.gated_layers.weight"]
        tensors[f"layers.{layer}.gate_and_up.weight"] = gated
    tensors["embedding.weight"] = published["embeddings.word_embeddings.weight"]
    tensors["token_type"] = published["embeddings.token_type_embeddings.weight"][0].clone()
    tensors |= _renamed(published, {"embeddings.LayerNorm": "norm"})
    tensors = _stored_as(weights, source, tensors)
    write_tensors(source, folder / "nucleotide.safetensors", tensors, lambda: DnabertSModule(sizes))
    _import_tokenizer(source / "tokenizer.json", folder / "tokenizer.json", sizes.vocabulary)
    return EncoderSpec(
        architecture="dnabert_s",
        dim=sizes.embed_dim,
        file="nucleotide.safetensors",
        config=asdict(sizes),
        tokenizer="tokenizer.json",
    )


def import_esm2(source: Path, folder: Path, weights: str | None = None) -> EncoderSpec:
    """Write ``peptide.safetensors`` from fair-esm's ``.pt`` or a Hugging Face folder.

    ``weights`` is what they are stored in, one of `STORED`; None leaves them as they are.

    Raises
    ------
    ModelSetError
        If ``source`` is not an ESM-2.
    """
    read = _read_hugging_face_esm2 if source.is_dir() else _read_fair_esm
    sizes, tensors = read(source)
    tensors = _stored_as(weights, source, tensors)
    write_tensors(source, folder / "peptide.safetensors", tensors, lambda: Esm2Module(sizes))
    return EncoderSpec(
        architecture="esm2",
        dim=sizes.embed_dim,
        file="peptide.safetensors",
        config=asdict(sizes),
    )


def _dnabert_s_sizes(path: Path) -> DnabertSSizes:
    config = read_json(path)
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise ModelSetError(f"{path}: not the configuration of a DNABERT-S.")
    return _sizes(
        path,
        config,
        DnabertSSizes,
        layers="num_hidden_layers",
        embed_dim="hidden_size",
        heads="num_attention_heads",
        mlp_dim="intermediate_size",
        vocabulary="vocab_size",
        layer_norm_eps="layer_norm_eps",
    )


def _import_tokenizer(source: Path, target: Path, vocabulary: int) -> None:
    tokenizer = read_tokenizer(source)
    tokens = tokenizer.encode("ACGT").tokens
    if tokenizer.get_vocab_size() > vocabulary or tokens[:1] + tokens[-1:] != ["[CLS]", "[SEP]"]:
        raise ModelSetError(f"{source}: not the tokenizer of the DNABERT-S beside it.")
    shutil.copyfile(source, target)


def _read_fair_esm(source: Path) -> tuple[Esm2Sizes, dict[str, Tensor]]:
    content = read_checkpoint(source, ESM2_CLASSES)
    if not isinstance(content, dict) or not {"cfg", "model"} <= content.keys():
        raise ModelSetError(f"{source}: not an ESM-2 checkpoint of fair-esm (no cfg and model).")
    sizes = _sizes(
        source,
        _plain(_plain(content["cfg"]).get("model")),
        Esm2Sizes,
        layers="encoder_layers",
        embed_dim="encoder_embed_dim",
        heads="encoder_attention_heads",
        token_dropout="token_dropout",
    )
    published = check_tensors(source, content["model"]).without_prefix(
        "encoder.sentence_encoder.", "encoder."
    )
    tensors = _layers(published, "layers.{}", FAIR_ESM_LAYER, sizes.layers)
    for layer in range(sizes.layers):
        parts = [f"layers.{layer}.self_attn.{part}_proj" for part in "qkv"]
        tensors |= _stacked(published, parts, f"layers.{layer}.qkv")
    tensors["embedding.weight"] = published["embed_tokens.weight"]
    tensors |= _renamed(published, {"emb_layer_norm_after": "norm"})
    tensors["inverse_frequencies"] = _inverse_frequencies(published, sizes)
    return sizes, tensors


def _read_hugging_face_esm2(source: Path) -> tuple[Esm2Sizes, dict[str, Tensor]]:
    sizes = _hugging_face_esm2_sizes(source / "config.json")
    _check_vocabulary(source / "vocab.txt")
    published = read_folder(source).without_prefix("esm.")
    tensors = _layers(published, "encoder.layer.{}", HUGGING_FACE_ESM_LAYER, sizes.layers)
    for layer in range(sizes.layers):
        own = f"encoder.layer.{layer}.attention.self"
        parts = [f"{own}.{part}" for part in ("query", "key", "value")]
        tensors |= _stacked(published, parts, f"layers.{layer}.qkv")
    tensors["embedding.weight"] = published["embeddings.word_embeddings.weight"]
    tensors |= _renamed(published, {"encoder.emb_layer_norm_after": "norm"})
    tensors["inverse_frequencies"] = _inverse_frequencies(published, sizes)
    return sizes, tensors


def _hugging_face_esm2_sizes(path: Path) -> Esm2Sizes:
    config = read_json(path)
    esm2 = {"model_type": "esm", "position_embedding_type": "rotary", "layer_norm_eps": 1e-5}
    other = [key for key, value in esm2.items() if config.get(key) != value]
    other += ["emb_layer_norm_before"] if config.get("emb_layer_norm_before") else []
    if other:
        raise ModelSetError(f"{path}: not the configuration of an ESM-2 (see {', '.join(other)}).")
    return _sizes(
        path,
        config,
        Esm2Sizes,
        layers="num_hidden_layers",
        embed_dim="hidden_size",
        heads="num_attention_heads",
        token_dropout="token_dropout",
    )


def _check_vocabulary(path: Path) -> None:
    """Token ids mean the same in both formats; where the folder lists its tokens, make sure."""
    if path.exists() and path.read_text(encoding="utf-8").split() != list(TOKENS):
        raise ModelSetError(f"{path}: not ESM-2's tokens in ESM-2's order.")


def _inverse_frequencies(published: Published, sizes: Esm2Sizes) -> Tensor:
    stored = [tensor for name, tensor in published.items() if name.endswith("inv_freq")]
    if not stored:
        return inverse_frequencies(sizes.embed_dim // sizes.heads)
    if any(not torch.equal(tensor, stored[0]) for tensor in stored):
        raise ModelSetError(f"{published.path}: its layers have different rotary frequencies.")
    return stored[0]


def _plain(options: object) -> Mapping[str, Any]:
    """Options as a dictionary: checkpoints keep them as one or as a pickled namespace."""
    if isinstance(options, Inert):
        return options.state
    return options if isinstance(options, dict) else {}


def _sizes(path: Path, config: Mapping[str, Any], sizes: type[Sizes], **names: str) -> Sizes:
    """``sizes`` filled from ``config``, where each size stands under a published name."""
    found = {ours: config.get(name) for ours, name in names.items()}
    try:
        return build(sizes, found, "sizes")
    except ValueError as error:
        read = ", ".join(f"{ours} from {name}" for ours, name in names.items())
        raise ModelSetError(f"{path}: another kind of model? {error} ({read}).") from error


def _layers(
    published: Published, layer_name: str, names: Mapping[str, str], layers: int
) -> dict[str, Tensor]:
    if any(name.startswith(f"{layer_name.format(layers)}.") for name in published):
        raise ModelSetError(f"{published.path}: has more than the {layers} layers that it says.")
    tensors: dict[str, Tensor] = {}
    for layer in range(layers):
        prefix = layer_name.format(layer)
        parts = {f"{prefix}.{name}": f"layers.{layer}.{ours}" for name, ours in names.items()}
        tensors |= _renamed(published, parts)
    return tensors


def _renamed(published: Published, names: Mapping[str, str]) -> dict[str, Tensor]:
    return {
        f"{ours}.{kind}": published[f"{name}.{kind}"]
        for name, ours in names.items()
        for kind in ("weight", "bias")
    }


def _stacked(published: Published, names: Sequence[str], ours: str) -> dict[str, Tensor]:
    return {
        f"{ours}.{kind}": torch.cat([published[f"{name}.{kind}"] for name in names])
        for kind in ("weight", "bias")
    }


def _stored_as(
    weights: str | None, source: Path, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """``tensors`` cast to what they shall be stored in, the rotary frequencies left alone."""
    if weights is None:
        return dict(tensors)
    cast = {
        name: tensor if name == _EXACT else tensor.to(STORED[weights])
        for name, tensor in tensors.items()
    }
    for name, tensor in cast.items():
        if not torch.isfinite(tensor).all() and torch.isfinite(tensors[name]).all():
            raise ModelSetError(
                f"{source}: tensor {name!r} does not fit into {weights}; store it as bf16 or fp32."
            )
    return cast


def write_tensors(
    source: Path, target: Path, tensors: Mapping[str, Tensor], build: Callable[[], nn.Module]
) -> None:
    """Write ``tensors`` if they are those of the module that ``build`` makes."""
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in build().state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ModelSetError(
                f"{source}: tensor {name!r} should be {expected.get(name, 'absent')}, "
                f"but is {found.get(name, 'absent')}. Is it the right file?"
            )
    save_file(dict(tensors), target)
    # save_file leaves it to its owner alone; a model set is for everyone on the machine.
    target.chmod(0o644)
