"""A trained network as the files of a model set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES
from virnuc_dask.modelsets.registry import ClassifierSpec, ModelSetInfo
from virnuc_dask.training.network import NgramNetwork

CHUNK_LENGTHS = (500, 300)


def write_weights(network: NgramNetwork, folder: Path) -> None:
    """Write the tables (fp16) and the classifier (fp32) as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: table.detach().half() for name, table in network.tables.items()}
    contents = {
        "nucleotide": {name: tables[name] for name in DNA_TABLES},
        "peptide": {name: tables[name] for name in PEPTIDE_TABLES},
        "classifier": network.classifier.state_dict(),
    }
    for name, tensors in contents.items():
        # Not save_file, whose files only their owner may read: others are to install them.
        (folder / f"{name}.safetensors").write_bytes(save(tensors))


def describe(width: int, hidden: int, training_data: str) -> ModelSetInfo:
    """The model set that `write_weights` writes, its quality still to be measured."""
    config = {"width": width}
    return ModelSetInfo(
        name="mini",
        version="0.1.0",
        chunk_lengths=CHUNK_LENGTHS,
        nucleotide=EncoderSpec(
            "dna_ngrams", len(DNA_TABLES) * width, "nucleotide.safetensors", config
        ),
        peptide=EncoderSpec(
            "peptide_ngrams", len(PEPTIDE_TABLES) * width, "peptide.safetensors", config
        ),
        classifier=ClassifierSpec("classifier.safetensors", hidden),
        licence="MIT (weights; the training data's package is under the Expat licence, too)",
        training_data=training_data,
    )


def short_quality(report: Mapping[str, Any]) -> dict[str, Any]:
    """What ``modelset.json`` keeps of an evaluation: the figures on the test genes' chunks."""
    return {
        length: {
            name: figures["chunks"][name]
            for name in ("auroc", "average_precision", "n_virus", "n_others")
        }
        for length, figures in report["by_chunk_length"].items()
    }
