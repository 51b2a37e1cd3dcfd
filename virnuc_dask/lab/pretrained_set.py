"""What a training learnt → the folder of a model set that reads genes, and its card."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors

from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.words import CLASSES, KNOWN_VALUES
from virnuc_dask.lab.contig_figures import PAIRS
from virnuc_dask.lab.quality.report import render
from virnuc_dask.lab.recipe import Recipe
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import (
    GENES,
    ClassifierSpec,
    ContigModelSpec,
    GenesSpec,
    ModelSetInfo,
    write_info,
)

# Of a gene's features: how known its DNA's words are, and its peptide's.
EVIDENCE = (0, len(KNOWN_VALUES) + len(CLASSES))
CHUNK_NT = 500
RELIABLE = 0.01  # below: of the training's records so many were no more familiar


@dataclass(frozen=True, slots=True)
class Parts:
    """All of a model set but its words."""

    classifier: Classifier
    contig_model: ContigModel
    called: tuple[tuple[float, float], ...]  # see `ContigModelSpec`


def write(folder: Path, words: Path, parts: Parts, recipe: Recipe, found: dict[str, Any]) -> None:
    """Write a model set, instead of one that was left half written; ``found`` are its figures."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables = load_file(words)
    save_file({"known": tables.pop("known_dna")}, folder / "nucleotide.safetensors")
    save_file(tables, folder / "peptide.safetensors")
    save_tensors(parts.classifier.state_dict(), folder / "classifier.safetensors")
    parts.contig_model.save(folder / "contig_model.safetensors")
    known, classes = len(KNOWN_VALUES), len(CLASSES)
    info = ModelSetInfo(
        name=recipe.name,
        version=recipe.version,
        chunk_lengths=(CHUNK_NT,),
        nucleotide=EncoderSpec("dna_words", known, "nucleotide.safetensors"),
        peptide=EncoderSpec("peptide_words", classes + known + 1, "peptide.safetensors"),
        classifier=ClassifierSpec("classifier.safetensors", recipe.fit.classifier.hidden),
        licence=recipe.licence,
        training_data=_training_data(recipe),
        quality=_quality(found),
        reading=GENES,
        genes=GenesSpec(recipe.fragments.caller, recipe.fragments.models),
        contig_model=ContigModelSpec("contig_model.safetensors", EVIDENCE, parts.called, RELIABLE),
    )
    write_info(folder, info)
    card = render("pretrained.md", recipe=recipe, found=found, called=parts.called, pairs=PAIRS)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _training_data(recipe: Recipe) -> str:
    told = [
        f"{Path(path).name} (SHA-256 {digest})" if digest else Path(path).name
        for path, digest in zip_longest(recipe.data.sources, recipe.data.sha256)
    ]
    return f"{', '.join(told)}; seed {recipe.seed}"


def _quality(found: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of the measurements: new groups of phages, by length."""
    by_length = found.get(f"{GENES}, new groups", {}).get("by_length", {})
    pair = "phage against prokaryote"
    return {length: of[pair] for length, of in by_length.items() if pair in of}
