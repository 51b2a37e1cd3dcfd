"""What a training of a classifier used and gave: as JSON, and as the card of its model set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from virnuc_dask.lab.training.fit_classifier import ClassifierRecipe, Epoch
from virnuc_dask.lab.training.groups import PARTS
from virnuc_dask.lab.training.markdown import number, table
from virnuc_dask.lab.training.training_records import DataFile, LeftOut

Figures = Mapping[str, Any]

_FIGURES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
    "mcc": "Matthews' coefficient",
    "recall": "viruses called virus",
    "false_positive_rate": "others called virus",
    "n_virus": "viruses",
    "n_others": "others",
}
_DECIMALS = 4
_LEVELS = {
    "frames": "frames",
    "frames_in_cds": "frames in a CDS",
    "chunks": "chunks",
    "contigs": "records",
    "contigs_by_mean": "records, by mean",
}


@dataclass(frozen=True, slots=True)
class PartCounts:
    """How much one part of the data holds; pairs are (virus, others)."""

    groups: tuple[int, int]
    records: tuple[int, int]
    frames: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """All that the model card tells."""

    name: str
    base: str  # the model set whose encoders are used: its name and version
    base_checksum: str
    chunk_length: int
    command: tuple[str, ...]
    files: tuple[DataFile, ...]
    left_out: LeftOut
    groups: str | None  # file that names the groups; without, they are told by 31-mers
    parts: tuple[PartCounts, ...]  # as `PARTS`
    cds_only: bool
    recipe: ClassifierRecipe
    best: Epoch
    history: tuple[Epoch, ...]
    device: str  # that learned
    threads: int
    calibration: str | None  # by what; None without
    test: Mapping[str, Figures]  # by level
    base_test_auroc: float | None  # of the chunks, with the classifier of the base
    contig_model: str | None = None  # what it was learned from; None without

    def as_json(self) -> dict[str, Any]:
        """For ``training.json``."""
        parts = zip(PARTS, self.parts, strict=True)
        content = asdict(self) | {"parts": {name: asdict(part) for name, part in parts}}
        if self.contig_model is None:  # as trainings without one were written
            del content["contig_model"]
        return content

    @property
    def grouped_by(self) -> str:
        """What holds a group together."""
        if self.groups is not None:
            return f"the groups of `{self.groups}`"
        return (
            "records that share a 31-mer on either strand, directly or through others (tandem "
            "repeats of up to six bases do not count)"
        )

    @property
    def quality(self) -> dict[str, Any]:
        """What ``modelset.json`` keeps: figures on the test chunks."""
        names = ("auroc", "average_precision", "f1", "n_virus", "n_others")
        return {str(self.chunk_length): {name: self.test["chunks"][name] for name in names}}

    @property
    def training_data(self) -> str:
        """The files in one line, for ``modelset.json``."""
        files = [f"{file.name} (SHA-256 {file.sha256})" for file in self.files if file.is_virus]
        others = [f"{f.name} (SHA-256 {f.sha256})" for f in self.files if not f.is_virus]
        return f"virus: {', '.join(files)}; others: {', '.join(others)}; seed {self.recipe.seed}"

    def summary(self) -> str:
        """The test figures, a line each of frames, chunks and records."""
        lines = []
        for level, label in _LEVELS.items():
            if level in self.test:
                found = self.test[level]
                auroc, precision, f1 = (
                    number(found[name], _DECIMALS) for name in ("auroc", "average_precision", "f1")
                )
                lines.append(
                    f"test {label:<16} AUROC {auroc}  average precision {precision}  F1 {f1}  "
                    f"({found['n_virus']:,} virus, {found['n_others']:,} others)"
                )
        if self.base_test_auroc is not None:
            lines.append(f"{self.base}, on the same chunks: AUROC {self.base_test_auroc:.4f}")
        return "\n".join(lines)

    def card(self) -> str:
        """The model card, Markdown."""
        return "\n".join(
            [
                *self._what(),
                *self._data(),
                *self._split(),
                *self._training(),
                *self._quality(),
                *self._calibration(),
                *self._reproduction(),
            ]
        )

    def _what(self) -> list[str]:
        return [
            f"# {self.name}",
            "",
            f"A classifier of {self.chunk_length} nt chunks, trained with `virnuc-dask train` on "
            f"the features of the encoders of model set {self.base} (checksum "
            f"`{self.base_checksum[:12]}`), which are unchanged. The published architecture: one "
            f"hidden layer of {self.recipe.hidden}, batch norm, ReLU, two outputs. All figures are "
            "in `training.json`.",
            "",
        ]

    def _data(self) -> list[str]:
        rows = [
            (
                f"`{file.name}`",
                "virus" if file.is_virus else "others",
                "GenBank" if file.is_genbank else "FASTA or FASTQ",
                number(file.records),
                number(file.length_nt),
                f"`{file.sha256}`",
            )
            for file in self.files
        ]
        left_out = self.left_out
        return [
            "## Data",
            "",
            *table(("file", "class", "format", "records", "nt", "SHA-256"), rows),
            "",
            f"Left out: {left_out.repeated:,} records that repeat the DNA of another, "
            f"{left_out.contradictory:,} whose DNA is in both classes, {left_out.empty:,} empty.",
            "",
        ]

    def _split(self) -> list[str]:
        heads = (
            "",
            "groups: virus",
            "others",
            "records: virus",
            "others",
            "frames: virus",
            "others",
        )
        rows = [
            (name, *(number(n) for pair in (c.groups, c.records, c.frames) for n in pair))
            for name, c in zip(PARTS, self.parts, strict=True)
        ]
        return [
            "## Split",
            "",
            f"By group, so that no group is in two parts: {self.grouped_by}. Validation chose the "
            "epoch and made the calibration; the test part was only measured.",
            "",
            *table(heads, rows),
            "",
            *(
                ["Training frames are those that a CDS annotation supports; validation and test "
                 "have all frames, as a run has.", ""]
                if self.cds_only
                else []
            ),
        ]  # fmt: skip

    def _training(self) -> list[str]:
        recipe, best = self.recipe, self.best
        rows = [
            (
                number(e.number),
                number(e.loss, _DECIMALS),
                number(e.validation_loss, _DECIMALS),
                number(e.validation_auroc, _DECIMALS),
            )
            for e in self.history
        ]
        return [
            "## Training",
            "",
            "Cross-entropy of the frames, both classes weighing the same; AdamW, learning rate "
            f"{recipe.learning_rate:g}, weight decay {recipe.weight_decay:g}, {recipe.batch} "
            f"frames a batch, dropout {recipe.dropout:g}, seed {recipe.seed}. Features were "
            "standardised; that is folded into the first layer. Stopped after "
            f"{recipe.patience} epochs without a better AUROC of the validation chunks, or after "
            f"{recipe.epochs}. Kept: epoch {best.number}.",
            "",
            *table(("epoch", "loss", "validation loss", "validation AUROC"), rows),
            "",
        ]

    def _quality(self) -> list[str]:
        levels = [name for name in _LEVELS if name in self.test]
        by_probability = self.calibration or self.contig_model
        rows = [
            (label, *(number(self.test[level][name], _DECIMALS) for level in levels))
            for name, label in _FIGURES.items()
        ]
        return [
            "## How good it is on the test part",
            "",
            *table(("", *(_LEVELS[level] for level in levels)), rows),
            "",
            "Frames and chunks without a score are not counted. A frame or chunk is called by the "
            "larger of its two scores, a record by "
            + ("its probability" if by_probability else "the mean score of its chunks")
            + ", virus from one half on.",
            "",
            *self._comparison(),
            "Test records come from the same files as the training records: expect less on "
            "sequences that are unlike all of them.",
            "",
        ]

    def _comparison(self) -> list[str]:
        if self.base_test_auroc is None:
            return []
        return [
            f"The classifier of {self.base} has an AUROC of {self.base_test_auroc:.4f} on the same "
            "test chunks. They may have been among its own training data.",
            "",
        ]

    def _calibration(self) -> list[str]:
        text = f"Made from {self.calibration}." if self.calibration else (
            "None: there were too few validation records. Scores are no probabilities."
        )  # fmt: skip
        lines = ["## Calibration", "", text, ""]
        if self.contig_model is None:
            return lines
        return [
            *lines,
            "## Contig model",
            "",
            f"It calls a record by all of its frames. Learned from {self.contig_model}, drawn from "
            "training records; each frame was scored by a classifier that had not seen its group. "
            "Records shorter than a chunk go without it; `by mean` are all records without it.",
            "",
        ]

    def _reproduction(self) -> list[str]:
        return [
            "## How to reproduce",
            "",
            f"    {shlex.join(self.command)}",
            "",
            f"It learned on {self.device}, torch having {self.threads} thread(s); the same command "
            "gives the same weights on the same machine with as many.",
            "",
        ]
