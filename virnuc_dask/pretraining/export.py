"""A trained n-gram network as the files of a model set."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.registry import ClassifierSpec, ModelSetInfo
from virnuc_dask.pretraining.network import NgramNetwork
from virnuc_dask.pretraining.recipe import PretrainSettings

CLASSIFIER, NUCLEOTIDE, PEPTIDE = (
    f"{name}.safetensors" for name in ("classifier", "nucleotide", "peptide")
)


def write_weights(network: NgramNetwork, folder: Path) -> None:
    """Write the tables and the classifier as safetensors, in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {name: table.detach() for name, table in network.tables.items()}
    contents = {
        NUCLEOTIDE: {name: tables[name] for name in DNA_TABLES},
        PEPTIDE: {name: tables[name] for name in PEPTIDE_TABLES},
        CLASSIFIER: network.classifier.state_dict(),
    }
    for name, tensors in contents.items():
        halves = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
        # Not save_file, whose files only their owner may read: others are to install them.
        (folder / name).write_bytes(save(halves))


def describe(network: NgramNetwork, settings: PretrainSettings, training_data: str) -> ModelSetInfo:
    """The model set that `write_weights` writes, its quality still to be measured."""
    width = network.tables["codons"].shape[1]
    config = {"width": width}
    return ModelSetInfo(
        name=settings.name,
        version=settings.version,
        chunk_lengths=settings.chunk_lengths,
        nucleotide=EncoderSpec("dna_ngrams", len(DNA_TABLES) * width, NUCLEOTIDE, config),
        peptide=EncoderSpec("peptide_ngrams", len(PEPTIDE_TABLES) * width, PEPTIDE, config),
        classifier=ClassifierSpec(CLASSIFIER, network.classifier.hidden.out_features),
        licence=settings.licence,
        training_data=training_data,
    )


def describe_encoders(
    encoders: tuple[EncoderSpec, EncoderSpec], settings: PretrainSettings, training_data: str
) -> ModelSetInfo:
    """A model set of pretrained encoders that still waits for its classifier."""
    return ModelSetInfo(
        name=settings.name,
        version=settings.version,
        chunk_lengths=settings.chunk_lengths[:1],
        nucleotide=encoders[0],
        peptide=encoders[1],
        classifier=ClassifierSpec(CLASSIFIER, settings.ngrams.hidden),
        licence=settings.licence,
        training_data=training_data,
    )


def write_untrained(folder: Path, info: ModelSetInfo) -> None:
    """Write a classifier that knows nothing: a model set has one, and training replaces it."""
    classifier = Classifier(info.feature_dim, info.classifier.hidden)
    (folder / info.classifier.file).write_bytes(save(classifier.state_dict()))
