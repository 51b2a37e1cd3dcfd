"""Training n-gram networks: batches of fresh windows, checks on validation, checkpoints."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.genes import Gene
from virnuc_dask.pretraining.network import NgramNetwork, chunk_scores, loss_of
from virnuc_dask.pretraining.recipe import NgramRecipe
from virnuc_dask.pretraining.windows import Samples, WindowSource, codes_of, pack
from virnuc_dask.quality.figures import auroc
from virnuc_dask.sequences.chunks import chunk_spans

log = logging.getLogger(__name__)

_CHUNKS_AT_ONCE = 2_048
_BATCHES_FOR_NORM = 20  # over which the batch norm of averaged weights is measured
_MOST_VALIDATION_CHUNKS = 12_000  # of each label and length
_WARM_UP_STEPS = 50

History = list[dict[str, float]]


def train(
    source: WindowSource, validation: Mapping[int, Samples], recipe: NgramRecipe, seed: int
) -> tuple[NgramNetwork, History]:
    """Train one network; the step with the best mean validation AUROC is kept.

    The learning rate falls along half a cosine. What is checked and kept are running averages of
    the weights.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    training = _Training(recipe, seed)
    best, kept, history = -1.0, training.network, []
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(1, recipe.steps + 1):
        losses.append(training.learn(source.draw(recipe.batch, rng)))
        if step % recipe.steps_between_checks and step < recipe.steps:
            continue
        network = training.averaged(
            [source.draw(recipe.batch, rng) for _ in range(_BATCHES_FOR_NORM)]
        )
        quality = chunk_aurocs(network, validation)
        loss, losses = float(np.mean(losses)), []
        history.append({"step": step, "loss": loss, **{str(n): q for n, q in quality.items()}})
        log.info(
            "seed %d, step %d of %d, %.0f s: loss %.4f, validation AUROC %s",
            *(seed, step, recipe.steps, time.perf_counter() - start, loss, shown(quality)),
        )
        if np.mean(list(quality.values())) > best:
            best, kept = float(np.mean(list(quality.values()))), network
    return kept, history


class _Training:
    """The network, its optimiser, and the running average of its weights."""

    def __init__(self, recipe: NgramRecipe, seed: int) -> None:
        self.recipe = recipe
        self.network = NgramNetwork(
            recipe.width, recipe.hidden, recipe.dropout, recipe.table_spread
        )
        average = get_ema_multi_avg_fn(recipe.averaging)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=average)
        groups: list[dict[str, Any]] = [
            {"params": self.network.tables.parameters(), "lr": recipe.table_learning_rate},
            {"params": self.network.classifier.parameters()},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.schedule = LambdaLR(self.optimizer, self._rate)
        self.generator = torch.Generator().manual_seed(seed)

    def learn(self, batch: Samples) -> float:
        """One step; its loss."""
        thinned = batch.thinned(self.recipe.ngram_dropout, self.generator)
        loss = loss_of(self.network(thinned), thinned)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return loss.item()

    def averaged(self, samples: Sequence[Samples]) -> NgramNetwork:
        """A copy with the averaged weights, its batch norm measured anew on ``samples``."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.average.module.state_dict())
        with torch.no_grad():
            update_bn(samples, network)
        return network.eval()

    def _rate(self, step: int) -> float:
        fallen = (1 + np.cos(np.pi * step / self.recipe.steps)) / 2
        return float(fallen * min(1, (step + 1) / _WARM_UP_STEPS))


def validation_chunks(genes: Sequence[Gene], chunk_length: int) -> Samples:
    """Full-length chunks of the genes by the run's own rule, at most so many of each label.

    Raises
    ------
    BadInputError
        If a label has none.
    """
    chunks = [
        (gene.dna[start:end], int(gene.is_virus))
        for gene in genes
        for start, end in chunk_spans(len(gene.dna), chunk_length)
        if end - start == chunk_length
    ]
    order = np.random.default_rng(0).permutation(len(chunks))
    labels = np.array([chunks[index][1] for index in order], np.int64)
    kept = np.concatenate([np.flatnonzero(labels == n)[:_MOST_VALIDATION_CHUNKS] for n in (0, 1)])
    codes, clear = codes_of([chunks[order[index]][0] for index in kept])
    samples, _ = pack(codes, labels[kept][clear])
    for number, label in enumerate(("other", "viral")):
        if number not in samples.labels:
            raise BadInputError(
                f"the {label} validation genes have no chunk of {chunk_length} nt with an open "
                "frame; give more or longer genes, or a larger split.validation."
            )
    return samples


@torch.inference_mode()
def chunk_aurocs(network: NgramNetwork, validation: Mapping[int, Samples]) -> dict[int, float]:
    """AUROC of the chunks' scores, by chunk length."""
    quality = {}
    for length, samples in validation.items():
        scores = chunk_scores(_scores(network, samples), samples)
        quality[length] = auroc(scores.numpy(), samples.labels.numpy() == 1)
    return quality


def _scores(network: NgramNetwork, samples: Samples) -> Tensor:
    """Each frame's virus score, in double precision: ties would be chance."""
    frames = len(samples.chunk_of_frame)
    parts = [
        Samples(
            {
                name: bags.part(at, min(at + _CHUNKS_AT_ONCE, frames))
                for name, bags in samples.bags.items()
            },
            samples.chunk_of_frame[at : at + _CHUNKS_AT_ONCE],
            samples.labels,
        )
        for at in range(0, frames, _CHUNKS_AT_ONCE)
    ]
    return torch.cat([torch.softmax(network(part).double(), dim=1)[:, 1] for part in parts])


def shown(quality: Mapping[int, float]) -> str:
    """AUROC by chunk length, for the log."""
    return ", ".join(f"{value:.4f} at {length} nt" for length, value in quality.items())
