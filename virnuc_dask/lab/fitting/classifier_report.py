"""What a training of a classifier used and gave: as JSON, and as the card of its model set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from virnuc_dask.lab.fitting.fit_classifier import ClassifierRecipe, Epoch
from virnuc_dask.lab.fitting.training_records import LeftOut
from virnuc_dask.lab.labelled.files import Group
from virnuc_dask.lab.quality.report import form, render

_ROWS = (
    ("auroc", "AUROC", ".4f"),
    ("average_precision", "average precision", ".4f"),
    ("f1", "F1", ".4f"),
    ("mcc", "Matthews' coefficient", ".4f"),
    ("recall", "viruses called virus", ".4f"),
    ("false_positive_rate", "others called virus", ".4f"),
    ("n_virus", "viruses", ","),
    ("n_others", "others", ","),
)
_LEVELS = {
    "frames": "frames",
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
    """All that the model card tells, and ``training.json``."""

    name: str
    base: str  # the model set whose encoders are used: its name and version
    base_checksum: str
    chunk_length: int
    command: tuple[str, ...]
    files: tuple[Group, ...]
    left_out: LeftOut
    groups: str | None  # file that names the groups; without, they are told by 31-mers
    parts: Mapping[str, PartCounts]  # by their names in `PARTS`
    recipe: ClassifierRecipe
    best: Epoch
    history: tuple[Epoch, ...]
    device: str  # that learned
    threads: int
    calibration: str | None  # by what; None without
    test: Mapping[str, Mapping[str, Any]]  # figures by level
    base_test_auroc: float | None  # of the chunks, with the classifier of the base
    contig_model: str | None  # what it was learned from; None without

    @property
    def quality(self) -> dict[str, Any]:
        """What ``modelset.json`` keeps: figures on the test chunks."""
        names = ("auroc", "average_precision", "f1", "n_virus", "n_others")
        return {str(self.chunk_length): {name: self.test["chunks"][name] for name in names}}

    @property
    def training_data(self) -> str:
        """The files in one line, for ``modelset.json``."""
        virus, others = (
            ", ".join(f"{f.name} (SHA-256 {f.sha256})" for f in self.files if f.is_virus == side)
            for side in (True, False)
        )
        return f"virus: {virus}; others: {others}; seed {self.recipe.seed}"

    def summary(self) -> str:
        """The test figures, a line each of frames, chunks and records."""
        shown = {"auroc": "AUROC", "average_precision": "average precision", "f1": "F1"}
        lines = []
        for level, found in self.test.items():
            figures = "  ".join(f"{name} {form(found[key], '.4f')}" for key, name in shown.items())
            counts = f"{found['n_virus']:,} virus, {found['n_others']:,} others"
            lines.append(f"test {_LEVELS[level]:<16} {figures}  ({counts})")
        if self.base_test_auroc is not None:
            lines.append(f"{self.base}, on the same chunks: AUROC {self.base_test_auroc:.4f}")
        return "\n".join(lines)

    def card(self) -> str:
        """The model card, Markdown."""
        levels = {level: name for level, name in _LEVELS.items() if level in self.test}
        command = shlex.join(self.command)
        return render("training.md", r=self, levels=levels, rows=_ROWS, command=command)
