"""Published checkpoints → a model set: safetensors, a tokenizer, a manifest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.errors import ModelSetError, UsageError
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.importing.checkpoints import (
    Inert,
    Published,
    check_tensors,
    read_checkpoint,
    read_tensors,
    weight_files,
)
from virnuc_dask.modelsets.importing.encoders import import_dnabert_s, import_esm2, write_tensors
from virnuc_dask.modelsets.manifest import CARD, ClassifierSpec, ModelSetInfo, sha256, write_info
from virnuc_dask.tables.paths import writing

# The classes that the published classifier's file names besides tensors.
CLASSIFIER_CLASSES = (
    "__main__.MLPClassifier",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.activation.Softmax",
    "torch.nn.modules.batchnorm.BatchNorm1d",
    "torch.nn.modules.dropout.Dropout",
    "torch.nn.modules.linear.Linear",
)
# Published name → ours, for the classifier's layers.
_CLASSIFIER_LAYERS = {"hidden_layer": "hidden", "bn1": "norm", "output_layer": "output"}

_LICENCE = "that of each checkpoint, see README.md"
_CARD = """# {name}

A model set for virnuc_dask, imported from published checkpoints. Nothing was trained:
the tensors are those of the files below, renamed and regrouped{rounded}.

| part | architecture | sizes |
|---|---|---|
| nucleotide encoder | DNABERT-S | {nucleotide} |
| peptide encoder | {esm2} | {peptide} |
| classifier | multi-layer perceptron{untrained} | {inputs} to {hidden} to 2 |

Chunk lengths: {lengths}. Training data and quality are those of the checkpoints. Licences:
{licence}. Ask the authors before passing them on.

## Imported from

| file | SHA-256 |
|---|---|
{sources}
"""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the published files are.

    ``dnabert_s`` is a Hugging Face folder; ``esm2`` such a folder or fair-esm's ``.pt``;
    ``classifier`` a ``.pth`` (a module or a state dictionary) or a ``.safetensors``; None for the
    encoders alone, to train one.
    """

    dnabert_s: Path
    esm2: Path
    classifier: Path | None


def import_modelset(
    name: str,
    out: Path,
    chunk_lengths: Sequence[int],
    checkpoints: Checkpoints,
    weights: str | None = None,
    licence: str = _LICENCE,
) -> ModelSetInfo:
    """Make the model set ``name`` in the folder ``out``, which appears complete or not at all.

    No code in the checkpoints is run.

    Parameters
    ----------
    chunk_lengths
        Those the classifier was trained for, in nt, the default first.
    weights
        What the encoders' weights are stored in: ``fp32``, ``fp16`` or ``bf16``; that which they
        are computed in loads fastest. None leaves them as they are.
    licence
        Those of the parts, in words.

    Raises
    ------
    UsageError
        If ``out`` exists, or another import makes it meanwhile.
    ModelSetError
        If a checkpoint is missing, damaged, refused, or does not fit the others.
    """
    with writing(out):
        out = out.resolve()
        if out.exists():
            raise UsageError(f"{out}: exists already. Remove it or choose another folder.")
        scratch = out.parent / f".{out.name}.{uuid4().hex[:12]}.import"
        scratch.mkdir(parents=True)
    try:
        info = _import_into(scratch, name, tuple(chunk_lengths), checkpoints, weights, licence)
        with writing(out):  # which holds something if another import made it meanwhile
            scratch.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return info


def _import_into(
    folder: Path,
    name: str,
    chunk_lengths: tuple[int, ...],
    checkpoints: Checkpoints,
    weights: str | None,
    licence: str,
) -> ModelSetInfo:
    nucleotide = import_dnabert_s(checkpoints.dnabert_s, folder, weights)
    peptide = import_esm2(checkpoints.esm2, folder, weights)
    classifier = import_classifier(checkpoints.classifier, folder, nucleotide.dim + peptide.dim)
    info = ModelSetInfo(
        name=name,
        version="imported",
        chunk_lengths=chunk_lengths,
        nucleotide=nucleotide,
        peptide=peptide,
        classifier=classifier,
        licence=licence,
        training_data="that of each checkpoint, see README.md",
    )
    card = _card(info, checkpoints, weights)
    with writing(folder):
        (folder / CARD).write_text(card, encoding="utf-8")
        return write_info(folder, info)


def import_classifier(source: Path | None, folder: Path, inputs: int) -> ClassifierSpec:
    """Write ``classifier.safetensors`` from a module, a state dictionary or safetensors.

    Without a ``source`` it is of zeros, and marked so. Raises `ModelSetError` if ``source`` is no
    such classifier or does not take ``inputs`` values.
    """
    target = folder / "classifier.safetensors"
    if source is None:
        zeros = {k: torch.zeros_like(v) for k, v in Classifier(inputs, 1).state_dict().items()}
        write_tensors(folder, target, zeros, lambda: Classifier(inputs, 1))
        return ClassifierSpec(target.name, 1, "untrained")
    published = _read_classifier(source)
    weight = published["hidden.weight"]
    hidden, takes = weight.shape if weight.ndim == 2 else (0, 0)
    if takes != inputs:
        raise ModelSetError(
            f"{source}: the classifier takes {takes} values, but the two encoders give {inputs}. "
            "It was trained on other encoders; import those."
        )
    tensors = {"norm.num_batches_tracked": torch.tensor(0)} | published
    write_tensors(source, target, tensors, lambda: Classifier(inputs, hidden))
    return ClassifierSpec(target.name, hidden)


def _read_classifier(source: Path) -> Published:
    if source.suffix == ".safetensors":
        published = read_tensors(source)
    else:
        content = read_checkpoint(source, CLASSIFIER_CLASSES)
        tensors = _tensors_of(content) if isinstance(content, Inert) else content
        published = check_tensors(source, tensors)
    ours = {}
    for name, tensor in published.items():
        layer, _, part = name.partition(".")
        ours[f"{_CLASSIFIER_LAYERS.get(layer, layer)}.{part}"] = tensor
    return Published(source, ours)


def _tensors_of(module: Inert) -> dict[str, Any]:
    """The tensors of a pickled module's layers, as its state dictionary would name them."""
    return {
        f"{layer}.{name}": tensor
        for layer, part in module.table("_modules").items()
        if isinstance(part, Inert)
        for table in ("_parameters", "_buffers")
        for name, tensor in part.table(table).items()
    }


def _card(info: ModelSetInfo, checkpoints: Checkpoints, weights: str | None) -> str:
    sources = [
        file
        for path in (checkpoints.dnabert_s, checkpoints.esm2, checkpoints.classifier)
        if path is not None
        for file in (weight_files(path) if path.is_dir() else [path])
    ]
    return _CARD.format(
        name=info.name,
        licence=info.licence.removesuffix(", see README.md"),
        rounded="" if weights is None else f"; the encoders' are stored as {weights}",
        nucleotide=_sizes_text(info.nucleotide),
        peptide=_sizes_text(info.peptide),
        inputs=info.feature_dim,
        hidden=info.classifier.hidden,
        esm2=info.peptide.name or "ESM-2",
        untrained="" if info.is_trained else ", not trained",
        lengths=", ".join(f"{length} nt" for length in info.chunk_lengths),
        sources="\n".join(f"| `{file.name}` | `{sha256(file)}` |" for file in sources),
    )


def _sizes_text(spec: EncoderSpec) -> str:
    config = spec.config
    return f"{config['layers']} layers of {config['embed_dim']}, {config['heads']} heads"
