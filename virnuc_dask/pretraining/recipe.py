"""Every setting of ``pretrain``, each with its default; a YAML file holds them under ``pretrain:``.

Paths are relative to where the command is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from virnuc_dask.config import Section, at_least, one_of, read_preset
from virnuc_dask.errors import BadSettingError
from virnuc_dask.pretraining.transformer_recipe import TransformerRecipe


@dataclass(frozen=True, slots=True)
class DataSettings(Section):
    """Where labelled sequences come from, and which may not be used."""

    markers: str | None = None  # MetaPhlAn's markers.fasta: names tell the labels
    virus: tuple[str, ...] = ()  # FASTA files of genes of viruses
    other: tuple[str, ...] = ()  # FASTA files of genes of anything else
    genomes: tuple[str, ...] = ()  # FASTA or GenBank: whole genomes of others, to train on
    validation_genomes: tuple[str, ...] = ()  # likewise, for choosing and calibrating
    sha256: tuple[str, ...] = ()  # of all files, in this order; none: not compared
    exclude_names: str | None = None  # names never to be used, one a line
    exclude_similar: tuple[str, ...] = ()  # genes that share a 31-mer with them are never used
    groups: str | None = None  # genome<TAB>group: genomes of others to be measured apart
    most_per_genome: int = 40  # genes of one genome of others
    calibrate_on_sure: bool = False  # not on others that resemble a viral gene

    def __post_init__(self) -> None:
        at_least("data.most_per_genome", self.most_per_genome, 1)
        if not (self.markers or (self.virus and self.other)):
            raise BadSettingError("data needs `markers`, or both `virus` and `other`.")


@dataclass(frozen=True, slots=True)
class SplitSettings(Section):
    """How genes are held out: shares of the genomes, then everything that resembles them."""

    test: float = 0.06
    validation: float = 0.04
    identity: float = 0.30  # of the aligned residues
    coverage: float = 0.50  # of the shorter protein
    sensitivity: float = 5.0  # of MMseqs2

    def __post_init__(self) -> None:
        for name in ("test", "validation", "identity", "coverage"):
            if not 0 < getattr(self, name) < 1:
                raise BadSettingError(f"split.{name} must be between 0 and 1.")
        if self.test + self.validation >= 1:
            raise BadSettingError("split.test and split.validation leave nothing to train on.")
        if not 1 <= self.sensitivity <= 7.5:
            raise BadSettingError("split.sensitivity must be from 1 to 7.5.")


@dataclass(frozen=True, slots=True)
class NgramRecipe(Section):
    """How the n-gram tables and their classifier are trained, and how many of them."""

    members: int = 1  # networks trained apart, whose mean is the model set
    width: int = 96  # values of an n-gram in each table
    hidden: int = 512  # of the classifier of one member
    dropout: float = 0.3
    ngram_dropout: float = 0.3
    mutated_share: float = 0.5  # of a window's residues, at most
    noise_share: float = 0.06  # of the windows
    steps: int = 8_000
    batch: int = 1_024  # windows
    learning_rate: float = 2e-3
    table_learning_rate: float = 1e-2
    table_spread: float = 0.05  # standard deviation of the tables before training
    weight_decay: float = 0.1
    averaging: float = 0.998  # of the weights, per step
    steps_between_checks: int = 500

    def __post_init__(self) -> None:
        for name in ("members", "width", "hidden", "steps", "batch", "steps_between_checks"):
            at_least(f"ngrams.{name}", getattr(self, name), 1)
        for name in ("dropout", "ngram_dropout", "mutated_share", "noise_share", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise BadSettingError(f"ngrams.{name} must be at least 0 and below 1.")
        for name in ("learning_rate", "table_learning_rate", "table_spread"):
            if not 0 < getattr(self, name) < float("inf"):
                raise BadSettingError(f"ngrams.{name} must be above 0.")
        if not 0 <= self.weight_decay < float("inf"):
            raise BadSettingError("ngrams.weight_decay must be at least 0.")


@dataclass(frozen=True, slots=True)
class PretrainSettings(Section):
    """A whole training: what from, what of, and where to."""

    name: str
    out: str  # the model set's folder
    work: str  # splits, checkpoints, test sequences, evaluation
    data: DataSettings
    version: str = "0.1.0"
    licence: str = "not stated"
    notes: str = ""  # for the model card, Markdown
    chunk_lengths: tuple[int, ...] = (500, 300)
    encoders: str = "ngrams"  # ngrams, transformers
    split: SplitSettings = field(default_factory=SplitSettings)
    ngrams: NgramRecipe = field(default_factory=NgramRecipe)
    transformers: TransformerRecipe = field(default_factory=TransformerRecipe)
    classifier_genes: int = 60_000  # that the classifier of transformers learns from, half viral
    seed: int = 1
    threads: int = 2

    def __post_init__(self) -> None:
        one_of("encoders", self.encoders, ("ngrams", "transformers"))
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 1)
        at_least("classifier_genes", self.classifier_genes, 2)
        if not self.chunk_lengths or min(self.chunk_lengths) < 3:
            raise BadSettingError("chunk_lengths must name lengths of 3 nt or more.")
        if self.encoders == "transformers" and len(self.chunk_lengths) > 1:
            raise BadSettingError("chunk_lengths: transformers are made for one; train more sets.")

    @classmethod
    def read(cls, file: Path) -> PretrainSettings:
        """Read a YAML file whose one key is ``pretrain``.

        Raises
        ------
        BadInputError, BadSettingError
            If it cannot be read, or a setting is missing, unknown or impossible.
        """
        values = read_preset(file, "pretrain")
        if missing := [name for name in ("name", "out", "work", "data") if name not in values]:
            raise BadSettingError(f"{file}: pretrain.{missing[0]} is missing.")
        return cls.of(values, "pretrain")
