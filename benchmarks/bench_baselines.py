"""Model sets beside simpler ways to find viruses, on the same held-out genes.

Reads the genes and the split of a pretraining's config. Scores the full-length chunks of the test
genes with every model set and with gradient boosting over their composition, which is trained here
on the same training genes; the first model set is what the others are compared with. Intervals
are bootstrapped over genes. With --learning-curve or --ablation it trains short n-gram networks
instead and reports their validation AUROC. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from comparison import LabelledChunks, compare, full_chunks, score_chunks
from composition import WIDTH, CompositionClassifier, GeneWindows, train_composition
from ngram_trials import Series, ablation, learning_curve, run_series, short

from virnuc_dask.measuring.machine import describe, versions
from virnuc_dask.modelsets.modelset import ModelSet, limit_threads, load_modelset, release
from virnuc_dask.pretraining.genes import TEST, TRAIN, VALIDATION
from virnuc_dask.pretraining.material import Material, gather
from virnuc_dask.pretraining.recipe import PretrainSettings
from virnuc_dask.quality.figures import RESAMPLES, SEED, Floats
from virnuc_dask.tables.parquet import write_text

COMPOSITION, SPLIT = "composition", "split.json"
_MOST_VALIDATION_CHUNKS = 6_000  # of each class and length, for the number of trees


def main() -> None:
    options = parse_options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = PretrainSettings.read(options.config)
    limit_threads(options.threads)
    material = gather_as_split(settings)
    if options.learning_curve or options.ablation:
        figures = train_series(options, settings, material)
    else:
        figures = compare_all(options, settings, material)
    result = {
        **figures,
        "data": {"genes": material.counts, "sha256": dict(material.sha256)},
        "machine": describe(),
        "versions": versions("scikit-learn"),
    }
    line = json.dumps(result, allow_nan=False)
    if options.out:
        write_text(options.out, line + "\n")
    print(line)


def gather_as_split(settings: PretrainSettings) -> Material:
    """The genes by side of the split that the pretraining made; never of another one."""
    path = Path(settings.work) / SPLIT
    if not path.exists():
        raise SystemExit(f"{path}: is not there; `virnuc-dask pretrain` makes it.")
    kept = path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="virnuc-baselines-") as scratch:
        copy = Path(scratch) / SPLIT
        copy.write_bytes(kept)
        material = gather(settings, Path(scratch))
        if copy.read_bytes() != kept:
            raise SystemExit(
                f"{path}: was made of other genes than the config's, or otherwise: what model sets "
                "learned from and what they are tested on would not be apart."
            )
    return material


def compare_all(
    options: argparse.Namespace, settings: PretrainSettings, material: Material
) -> dict[str, Any]:
    """Figures of all model sets and of composition, by chunk length."""
    chunks = {n: full_chunks(material, TEST, n) for n in settings.chunk_lengths}
    scores: dict[int, dict[str, Floats]] = {length: {} for length in chunks}
    ways: dict[str, Any] = {}
    for name in options.sets:
        models = load_modelset(name, device="cpu")
        label = models.info.name
        if label in ways or label == COMPOSITION:
            raise SystemExit(f"{name}: a second {label!r}; the names of model sets must differ.")
        ways[label] = describe_set(models, material)
        for length in chunks:
            scores[length][label] = score_chunks(models, chunks[length].table)
        release(models)
    classifier, elapsed_s = train_on(material, settings, options.windows)
    ways[COMPOSITION] = {
        "features": WIDTH,
        "windows": options.windows,
        "trees": classifier.trees,
        "validation_auroc": classifier.validation_auroc,
        "training_s": elapsed_s,
    }
    for length in chunks:
        scores[length][COMPOSITION] = classifier.score(chunks[length].sequences)
    return {
        "benchmark": "baselines",
        "ways": ways,
        "resamples": RESAMPLES,
        "seed": SEED,
        "by_chunk_length": {
            n: {"groups": count(chunks[n]), "comparisons": compare(scores[n], chunks[n])}
            for n in chunks
        },
    }


def describe_set(models: ModelSet, material: Material) -> dict[str, Any]:
    """What a model set is; a warning if it was trained from other files than the config's."""
    info = models.info
    same_files = all(digest in info.training_data for digest in material.sha256.values())
    if not same_files:
        print(
            f"{info.name}: trained from other files than the config's; it may know test genes.",
            file=sys.stderr,
        )
    return {
        "version": info.version,
        "checksum": info.checksum,
        "weight_bytes": models.weight_bytes,
        "trained_from_the_same_files": same_files,
    }


def train_on(
    material: Material, settings: PretrainSettings, windows: int
) -> tuple[CompositionClassifier, float]:
    """The classifier over composition, and the seconds that its training took."""
    start = time.perf_counter()
    validation = {}
    for length in settings.chunk_lengths:
        chunks = full_chunks(material, VALIDATION, length).at_most(_MOST_VALIDATION_CHUNKS)
        validation[length] = chunks.sequences, chunks.is_virus
    source = GeneWindows(material.parts[TRAIN])
    classifier = train_composition(source, validation, windows, settings.seed)
    return classifier, round(time.perf_counter() - start, 1)


def count(chunks: LabelledChunks) -> Mapping[str, dict[str, int]]:
    """Genes that have a full chunk, and chunks, by group."""
    group = chunks.group[chunks.gene]
    return {
        str(name): {
            "genes": len(np.unique(chunks.gene[group == name])),
            "chunks": int((group == name).sum()),
        }
        for name in np.unique(group)
    }


def train_series(
    options: argparse.Namespace, settings: PretrainSettings, material: Material
) -> dict[str, Any]:
    """The learning curve or the ablation."""
    recipe = short(settings.ngrams, options.steps)
    folder = Path(settings.work) / "trials"
    series = Series(material.parts, settings.chunk_lengths, settings.seed, folder)
    trials = learning_curve(recipe) if options.learning_curve else ablation(recipe)
    return {
        "benchmark": "learning_curve" if options.learning_curve else "ablation",
        "steps": options.steps,
        "trials": run_series(trials, series),
    }


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, help="of the pretraining: configs/pretrain-mini.yaml")
    parser.add_argument("--sets", nargs="+", default=["mini"], help="names or folders")
    parser.add_argument("--windows", type=int, default=60_000, help="to train composition on")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--learning-curve", action="store_true")
    mode.add_argument("--ablation", action="store_true")
    parser.add_argument("--steps", type=int, default=1_500, help="of each short training")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for the model sets")
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
