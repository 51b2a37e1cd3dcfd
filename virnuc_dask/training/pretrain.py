"""Train n-gram encoders and a classifier on marker genes, and write them as a model set.

``python -m virnuc_dask.training.pretrain`` reproduces the embedded model set ``mini``: its README
has the command. Training stops at the recipe's last round; what is kept is the network of the
round with the best validation AUROC.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from virnuc_dask.modelsets.registry import write_info
from virnuc_dask.training.contigs import calibrate
from virnuc_dask.training.evaluate import Scorer, add_data_options, evaluate, full_chunks, validate
from virnuc_dask.training.export import CHUNK_LENGTHS, describe, short_quality, write_weights
from virnuc_dask.training.figures import auroc
from virnuc_dask.training.genes import TEST, TRAIN, VALIDATION, Exclusions, Gene, read_genes
from virnuc_dask.training.network import NgramNetwork, chunk_scores, loss_of
from virnuc_dask.training.windows import Samples, WindowSource, pack

log = logging.getLogger(__name__)

_CHUNKS_AT_ONCE = 2_048


@dataclass(frozen=True)
class Recipe:
    """Sizes and settings of a training; the defaults are those of ``mini``."""

    width: int = 192
    hidden: int = 512
    dropout: float = 0.3
    ngram_dropout: float = 0.3
    learning_rate: float = 2e-3
    table_learning_rate: float = 1e-2
    weight_decay: float = 0.1
    averaging: float = 0.998  # of the weights, per step
    rounds: int = 120
    windows: int = 20_000  # drawn anew in each round
    batch: int = 256  # windows
    rounds_between_checks: int = 5
    validation_genes: int = 8_000  # at most so many others
    seed: int = 1


def train(genes: Mapping[str, Sequence[Gene]], recipe: Recipe) -> tuple[NgramNetwork, float]:
    """Train on the genes of `TRAIN`; `VALIDATION` chooses the round and the threshold.

    Returns
    -------
    NgramNetwork
        In evaluation mode; a chunk score of 0.5 is where both error rates are equal.
    float
        Its AUROC on the validation chunks, mean over `CHUNK_LENGTHS`.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    validation = _validation_chunks(genes[VALIDATION], recipe, rng)
    source = WindowSource(genes[TRAIN])
    training = _Training(recipe)
    best, best_network = 0.0, training.network
    for number in range(1, recipe.rounds + 1):
        samples = source.draw(recipe.windows, rng)
        loss = training.learn(samples)
        if number % recipe.rounds_between_checks and number < recipe.rounds:
            continue
        network = training.averaged(samples)
        quality = float(np.mean([_auroc(network, chunks) for chunks in validation]))
        log.info("round %d: loss %.4f, validation AUROC %.4f", number, loss, quality)
        if quality > best:
            best, best_network = quality, network
    _balance(best_network, validation)
    return best_network, best


class _Training:
    """The network, its optimiser, and the running average of its weights."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.network = NgramNetwork(recipe.width, recipe.hidden, recipe.dropout)
        average = get_ema_multi_avg_fn(recipe.averaging)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=average)
        groups: list[dict[str, Any]] = [
            {"params": self.network.tables.parameters(), "lr": recipe.table_learning_rate},
            {"params": self.network.classifier.parameters()},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.schedule = CosineAnnealingLR(self.optimizer, recipe.rounds)
        self.generator = torch.Generator().manual_seed(recipe.seed)

    def learn(self, samples: Samples) -> float:
        """One pass over ``samples``; its mean loss."""
        losses = [self._step(batch) for batch in _batches(samples, self.recipe.batch)]
        self.schedule.step()
        return float(np.mean(losses))

    def _step(self, batch: Samples) -> float:
        thinned = batch.thinned(self.recipe.ngram_dropout, self.generator)
        loss = loss_of(self.network(thinned), thinned)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return loss.item()

    def averaged(self, samples: Samples) -> NgramNetwork:
        """A copy with the averaged weights, its batch norm measured anew on ``samples``."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.average.module.state_dict())
        with torch.no_grad():
            update_bn(_batches(samples, self.recipe.batch), network)
        return network.eval()


def _batches(samples: Samples, size: int) -> Iterator[Samples]:
    """Batches of ``size`` chunks; a smaller rest is left out, unless it is all there is."""
    if len(samples) < size:
        yield samples
    for start in range(0, len(samples) - size + 1, size):
        yield samples.part(start, start + size)


def _validation_chunks(
    genes: Sequence[Gene], recipe: Recipe, rng: np.random.Generator
) -> list[Samples]:
    """Full-length chunks of all viral and some other validation genes, for each chunk length."""
    others = [index for index, gene in enumerate(genes) if not gene.is_virus]
    kept = set(rng.permutation(others)[: recipe.validation_genes].tolist())
    chosen = [gene for index, gene in enumerate(genes) if gene.is_virus or index in kept]
    packed = []
    for length in CHUNK_LENGTHS:
        chunks, gene_of = full_chunks(chosen, length)
        labels = np.array([gene.is_virus for gene in chosen], np.int64)[gene_of]
        packed.append(pack(chunks, labels)[0])
    return packed


@torch.inference_mode()
def _margins(network: NgramNetwork, samples: Samples) -> Tensor:
    """Each frame's virus logit less its others logit."""
    starts = range(0, len(samples), _CHUNKS_AT_ONCE)
    parts = (samples.part(at, min(at + _CHUNKS_AT_ONCE, len(samples))) for at in starts)
    return torch.cat([torch.diff(network(part), dim=1)[:, 0] for part in parts])


def _auroc(network: NgramNetwork, samples: Samples) -> float:
    scores = chunk_scores(torch.sigmoid(_margins(network, samples)).double(), samples)
    return auroc(scores.numpy(), samples.labels.numpy() == 1)


def _balance(network: NgramNetwork, validation: Sequence[Samples]) -> None:
    """Shift the classifier's bias until both error rates at a chunk score of 0.5 are equal."""
    margins = [_margins(network, samples) for samples in validation]
    is_virus = torch.cat([samples.labels for samples in validation]) == 1

    def excess(shift: float) -> float:
        scores = [
            chunk_scores(torch.sigmoid(margin + shift), samples)
            for margin, samples in zip(margins, validation, strict=True)
        ]
        called = torch.cat(scores) >= 0.5
        return float(called[~is_virus].double().mean() - (~called[is_virus]).double().mean())

    # The middle of all shifts that balance: there are many where the classes lie far apart.
    lowest = _bisect(lambda shift: excess(shift) >= 0, -10.0, 10.0)
    highest = _bisect(lambda shift: excess(shift) > 0, -10.0, 10.0)
    shift = (lowest + highest) / 2
    with torch.no_grad():
        network.classifier.output.bias.add_(torch.tensor([-shift / 2, shift / 2]))


def _bisect(is_above: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return (low + high) / 2


def pretrain(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """Read the genes, train, write the model set, measure it; returns the report."""
    exclusions = Exclusions.read(options.exclude_names, options.exclude_similar)
    gene_set = read_genes(options.markers, exclusions)
    counts = gene_set.counts()
    log.info("genes: %s; left out: %s", counts, gene_set.left_out)
    genes = {part: gene_set.part(part) for part in (TRAIN, VALIDATION, TEST)}
    network, validation_auroc = train(genes, recipe)
    write_weights(network, options.out)
    info = describe(
        recipe.width,
        recipe.hidden,
        f"MetaPhlAn 2 marker genes ({options.markers.name}, SHA-256 {gene_set.sha256}), "
        f"training genes: {counts[TRAIN]}, seed {recipe.seed}",
    )
    info = write_info(options.out, info)
    calibration = calibrate(
        Scorer.load(options.out, info).score, genes[VALIDATION], info.chunk_lengths
    )
    info = write_info(options.out, replace(info, calibration=asdict(calibration)))
    validation = validate(options.out, genes[VALIDATION])
    report = evaluate(options.out, genes[TEST], options.genomes)
    write_info(options.out, replace(info, quality=short_quality(report)))
    report["data"] = {"sha256": gene_set.sha256, "genes": counts, "left_out": gene_set.left_out}
    report["validation"] = validation
    report["training"] = asdict(recipe) | {"validation_auroc": round(validation_auroc, 4)}
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write the model set, and report how good it is."""
    parser = argparse.ArgumentParser(prog="virnuc_dask.training.pretrain", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="the model set's folder")
    parser.add_argument("--report", type=Path, help="JSON file for all figures")
    parser.add_argument("--genomes", type=Path, nargs="*", default=[], help="see evaluate")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--rounds", type=int, default=Recipe.rounds)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    report = pretrain(options, Recipe(seed=options.seed, rounds=options.rounds))
    text = json.dumps(report, indent=2) + "\n"
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
