"""Short trainings of the n-gram network that differ in one thing: a learning curve, an ablation.

All are judged on validation chunks, never on the test side. Each result is a file of its own, so
that a series that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from composition import GeneWindows

from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES
from virnuc_dask.pretraining.genes import TRAIN, VALIDATION, Gene
from virnuc_dask.pretraining.learning import train, validation_chunks
from virnuc_dask.pretraining.members import fingerprint
from virnuc_dask.pretraining.network import NgramNetwork, chunk_scores
from virnuc_dask.pretraining.noise import noise
from virnuc_dask.pretraining.recipe import NgramRecipe
from virnuc_dask.pretraining.windows import Samples, WindowSource, pack
from virnuc_dask.tables.parquet import write_text

log = logging.getLogger(__name__)

VIRAL_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
TABLES = (*DNA_TABLES, *PEPTIDE_TABLES)
_CHECKS = 3
_NOISE_WINDOWS, _NOISE_NT = 2_000, 500


@dataclass(frozen=True, slots=True)
class Trial:
    """One training: its recipe, the share of the viral genomes it sees, the n-grams it lacks."""

    name: str
    recipe: NgramRecipe
    viral_share: float = 1.0
    without: str | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """What the trainings of a series share."""

    genes: Mapping[str, Sequence[Gene]]  # by side of the split
    lengths: Sequence[int]
    seed: int
    folder: Path  # of the results

    def fingerprint(self, trial: Trial) -> str:
        """Of all that a result depends on; its name is no part of it."""
        whole = fingerprint(self.genes, self.lengths, trial.recipe, self.seed)
        text = f"{whole} {trial.viral_share} {trial.without}"
        return xxhash.xxh3_128_hexdigest(text.encode())


def short(recipe: NgramRecipe, steps: int) -> NgramRecipe:
    """The recipe with one member and so few steps."""
    between = min(recipe.steps_between_checks, max(1, steps // _CHECKS))
    return replace(recipe, members=1, steps=steps, steps_between_checks=between)


def learning_curve(recipe: NgramRecipe) -> list[Trial]:
    """The same training on more and more of the viral genomes; all others stay."""
    return [Trial(f"{share:g} of the viral genomes", recipe, share) for share in VIRAL_SHARES]


def ablation(recipe: NgramRecipe) -> list[Trial]:
    """The whole recipe, and what each part of it is worth."""
    return [
        Trial("whole", recipe),
        Trial("without mutation", replace(recipe, mutated_share=0.0)),
        Trial("without noise", replace(recipe, noise_share=0.0)),
        Trial("without n-gram dropout", replace(recipe, ngram_dropout=0.0)),
        *(Trial(f"without {table.replace('_', ' ')}", recipe, without=table) for table in TABLES),
    ]


def run_series(trials: Sequence[Trial], series: Series) -> list[dict[str, Any]]:
    """Results of all trials, in order; those in the folder already are read."""
    torch.set_num_threads(1)
    paths = [series.folder / f"{series.fingerprint(trial)}.json" for trial in trials]
    series.folder.mkdir(parents=True, exist_ok=True)
    if not all(path.exists() for path in paths):
        validation = {n: validation_chunks(series.genes[VALIDATION], n) for n in series.lengths}
        for trial, path in zip(trials, paths, strict=True):
            if not path.exists():
                log.info("training: %s", trial.name)
                write_text(path, json.dumps(_result(trial, series, validation)) + "\n")
    return [
        {"name": trial.name} | json.loads(path.read_text(encoding="utf-8"))
        for trial, path in zip(trials, paths, strict=True)
    ]


def with_viral_share(genes: Sequence[Gene], share: float) -> list[Gene]:
    """All genes but those of the viral genomes beyond ``share``.

    A genome is chosen by a hash of its name, so that a smaller share is part of every larger one.
    """
    return [gene for gene in genes if not gene.is_virus or _place(gene.genome) < share]


def without_table(samples: Samples, table: str | None) -> Samples:
    """The samples with no n-gram of one table, whose means are then zero."""
    if table is None:
        return samples
    bags = samples.bags[table]
    emptied = bags.where(torch.zeros(len(bags.ids), dtype=torch.bool))
    return replace(samples, bags={**samples.bags, table: emptied})


class TrialWindows(WindowSource):
    """The windows of one trial."""

    def __init__(self, genes: Sequence[Gene], trial: Trial) -> None:
        super().__init__(genes, trial.recipe.noise_share, trial.recipe.mutated_share)
        self._without = trial.without

    def draw(self, count: int, rng: np.random.Generator) -> Samples:
        """As the encoders are trained on, without the n-grams that the trial lacks."""
        return without_table(super().draw(count, rng), self._without)


def _result(trial: Trial, series: Series, validation: Mapping[int, Samples]) -> dict[str, Any]:
    genes = with_viral_share(series.genes[TRAIN], trial.viral_share)
    seen = {length: without_table(samples, trial.without) for length, samples in validation.items()}
    start = time.perf_counter()
    network, history = train(TrialWindows(genes, trial), seen, trial.recipe, series.seed)
    lengths = [str(length) for length in series.lengths]
    best = max(history, key=lambda check: float(np.mean([check[n] for n in lengths])))
    viral = [gene for gene in genes if gene.is_virus]
    return {
        "viral_genes": len(viral),
        "viral_genomes": len({gene.genome for gene in viral}),
        "other_genes": len(genes) - len(viral),
        "validation_auroc": {n: round(best[n], 6) for n in lengths},
        "noise_called_virus": _noise_called(network, series.genes[VALIDATION], trial.without),
        "checks": history,
        "elapsed_s": round(time.perf_counter() - start, 1),
    }


@torch.inference_mode()
def _noise_called(network: NgramNetwork, genes: Sequence[Gene], without: str | None) -> float:
    """The share of noise, made from validation genes, that scores one half or more."""
    rng = np.random.default_rng(0)
    windows = GeneWindows(genes).codes(_NOISE_WINDOWS, _NOISE_NT, rng)[0]
    made = noise(windows, rng)
    samples = without_table(pack(made, np.zeros(len(made), np.int64))[0], without)
    frame_scores = torch.softmax(network(samples).double(), dim=1)[:, 1]
    return round(float((chunk_scores(frame_scores, samples) >= 0.5).double().mean()), 6)


def _place(genome: str) -> float:
    return float(xxhash.xxh3_64_intdigest(f"share of {genome}".encode()) / 2**64)
