"""The two encoders' published checkpoints → our tensors, renamed and regrouped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from virnuc_dask.checks import build
from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.cost import esm2_name
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes, read_tokenizer
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import TOKENS, Esm2Module, Esm2Sizes
from virnuc_dask.encoders.weights import EncoderSizes
from virnuc_dask.errors import CannotWriteError, ModelSetError
from virnuc_dask.modelsets.importing.checkpoints import (
    Inert,
    Published,
    check_tensors,
    read_checkpoint,
    read_folder,
    read_json,
)

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
_DNABERT_S_LAYER = {
    "attention.self.Wqkv": "qkv",
    "attention.output.dense": "attention_out",
    "attention.output.LayerNorm": "attention_norm",
    "mlp.wo": "down",
    "mlp.layernorm": "mlp_norm",
}
# Ours → what a Hugging Face configuration calls it.
_HUGGING_FACE_SIZES = {
    "layers": "num_hidden_layers",
    "embed_dim": "hidden_size",
    "heads": "num_attention_heads",
}
_FAIR_ESM_CLASSES = ("argparse.Namespace",)  # that its files name besides tensors

STORED = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_EXACT = "inverse_frequencies"  # no weight: rounded, it turns the rotary embedding

Sizes = TypeVar("Sizes", bound=EncoderSizes)


class _Esm2Names(NamedTuple):
    """What a format of ESM-2 calls its tensors."""

    layer: str  # with its number
    parts: Mapping[str, str]  # of a layer
    attention: tuple[str, str, str]  # of a layer: queries, keys, values
    embedding: str
    norm: str


_FAIR_ESM = _Esm2Names(
    layer="layers.{}",
    parts=FAIR_ESM_LAYER,
    attention=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    embedding="embed_tokens.weight",
    norm="emb_layer_norm_after",
)
_HUGGING_FACE = _Esm2Names(
    layer="encoder.layer.{}",
    parts=HUGGING_FACE_ESM_LAYER,
    attention=("attention.self.query", "attention.self.key", "attention.self.value"),
    embedding="embeddings.word_embeddings.weight",
    norm="encoder.emb_layer_norm_after",
)


def import_dnabert_s(source: Path, folder: Path, weights: str | None = None) -> EncoderSpec:
    """Write ``nucleotide.safetensors`` and ``tokenizer.json`` from a Hugging Face folder.

    ``weights`` is what they are stored in, one of `STORED`; None leaves them as they are.
    Raises `ModelSetError` if the folder is not a DNABERT-S.
    """
    sizes = _dnabert_s_sizes(source / "config.json")
    published = read_folder(source).without_prefix("bert.")
    tensors = _layers(published, "encoder.layer.{}", _DNABERT_S_LAYER, sizes.layers)
    for layer in range(sizes.layers):
        gated = published[f"encoder.layer.{layer}.mlp.gated_layers.weight"]
        tensors[f"layers.{layer}.gate_and_up.weight"] = gated
    tensors["embedding.weight"] = published["embeddings.word_embeddings.weight"]
    tensors["token_type"] = published["embeddings.token_type_embeddings.weight"][0].clone()
    tensors |= _renamed(published, {"embeddings.LayerNorm": "norm"})
    target = folder / "nucleotide.safetensors"
    write_tensors(source, target, tensors, lambda: DnabertSModule(sizes), weights)
    _import_tokenizer(source / "tokenizer.json", folder / "tokenizer.json", sizes.vocabulary)
    dim = sizes.embed_dim
    return EncoderSpec(
        "dnabert_s", dim, target.name, asdict(sizes), "tokenizer.json", name="DNABERT-S"
    )


def import_esm2(source: Path, folder: Path, weights: str | None = None) -> EncoderSpec:
    """Write ``peptide.safetensors`` from fair-esm's ``.pt`` or a Hugging Face folder.

    ``weights`` as of `import_dnabert_s`. Raises `ModelSetError` if ``source`` is not an ESM-2.
    """
    if source.is_dir():
        sizes = _hugging_face_esm2_sizes(source / "config.json")
        _check_vocabulary(source / "vocab.txt")
        tensors = _esm2_tensors(read_folder(source).without_prefix("esm."), sizes, _HUGGING_FACE)
    else:
        sizes, published = _read_fair_esm(source)
        tensors = _esm2_tensors(published, sizes, _FAIR_ESM)
    target = folder / "peptide.safetensors"
    write_tensors(source, target, tensors, lambda: Esm2Module(sizes), weights)
    name = esm2_name(sizes.layers, sizes.embed_dim, sizes.heads)
    return EncoderSpec("esm2", sizes.embed_dim, target.name, asdict(sizes), name=name)


def _dnabert_s_sizes(path: Path) -> DnabertSSizes:
    config = read_json(path)
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise ModelSetError(f"{path}: not the configuration of a DNABERT-S.")
    more = {"mlp_dim": "intermediate_size", "vocabulary": "vocab_size"}
    names = _HUGGING_FACE_SIZES | more | {"layer_norm_eps": "layer_norm_eps"}
    return _sizes(path, config, DnabertSSizes, names)


def _import_tokenizer(source: Path, target: Path, vocabulary: int) -> None:
    tokenizer = read_tokenizer(source)
    tokens = tokenizer.encode("ACGT").tokens
    if tokenizer.get_vocab_size() > vocabulary or tokens[:1] + tokens[-1:] != ["[CLS]", "[SEP]"]:
        raise ModelSetError(f"{source}: not the tokenizer of the DNABERT-S beside it.")
    shutil.copyfile(source, target)


def _read_fair_esm(source: Path) -> tuple[Esm2Sizes, Published]:
    content = read_checkpoint(source, _FAIR_ESM_CLASSES)
    if not isinstance(content, dict) or not {"cfg", "model"} <= content.keys():
        raise ModelSetError(f"{source}: not an ESM-2 checkpoint of fair-esm (no cfg and model).")
    names = {
        "layers": "encoder_layers",
        "embed_dim": "encoder_embed_dim",
        "heads": "encoder_attention_heads",
        "token_dropout": "token_dropout",
    }
    config = _plain(_plain(content["cfg"]).get("model"))
    sizes = _sizes(source, config, Esm2Sizes, names)
    published = check_tensors(source, content["model"])
    return sizes, published.without_prefix("encoder.sentence_encoder.", "encoder.")


def _hugging_face_esm2_sizes(path: Path) -> Esm2Sizes:
    config = read_json(path)
    esm2 = {"model_type": "esm", "position_embedding_type": "rotary", "layer_norm_eps": 1e-5}
    other = [key for key, value in esm2.items() if config.get(key) != value]
    other += ["emb_layer_norm_before"] if config.get("emb_layer_norm_before") else []
    if other:
        raise ModelSetError(f"{path}: not the configuration of an ESM-2 (see {', '.join(other)}).")
    names = _HUGGING_FACE_SIZES | {"token_dropout": "token_dropout"}
    return _sizes(path, config, Esm2Sizes, names)


def _check_vocabulary(path: Path) -> None:
    """Token ids mean the same in both formats; where the folder lists its tokens, make sure."""
    if path.exists() and path.read_text(encoding="utf-8").split() != list(TOKENS):
        raise ModelSetError(f"{path}: not ESM-2's tokens in ESM-2's order.")


def _esm2_tensors(published: Published, sizes: Esm2Sizes, names: _Esm2Names) -> dict[str, Tensor]:
    tensors = _layers(published, names.layer, names.parts, sizes.layers)
    for layer in range(sizes.layers):
        attention = [f"{names.layer.format(layer)}.{part}" for part in names.attention]
        for kind in ("weight", "bias"):
            parts = [published[f"{part}.{kind}"] for part in attention]
            tensors[f"layers.{layer}.qkv.{kind}"] = torch.cat(parts)
    tensors["embedding.weight"] = published[names.embedding]
    tensors |= _renamed(published, {names.norm: "norm"})
    tensors[_EXACT] = _inverse_frequencies(published, sizes)
    return tensors


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


def _sizes(
    path: Path, config: Mapping[str, Any], sizes: type[Sizes], names: Mapping[str, str]
) -> Sizes:
    """``sizes`` filled from ``config``; ``names`` are what that calls each."""
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


def _stored_as(weights: str, source: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
    source: Path,
    target: Path,
    tensors: Mapping[str, Tensor],
    build: Callable[[], nn.Module],
    weights: str | None = None,
) -> None:
    """Write ``tensors`` if they are those of the module that ``build`` makes, as ``weights``."""
    stored = dict(tensors) if weights is None else _stored_as(weights, source, tensors)
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in build().state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ModelSetError(
                f"{source}: tensor {name!r} should be {expected.get(name, 'absent')}, "
                f"but is {found.get(name, 'absent')}. Is it the right file?"
            )
    try:
        save_file(stored, target)
    except SafetensorError as error:  # what it reads was checked: it cannot write
        raise CannotWriteError(f"{target}: cannot be written: {error}.") from error
    # save_file leaves it to its owner alone; a model set is for everyone on the machine.
    target.chmod(0o644)
