"""Training n-gram networks: batches of fresh windows, checks on validation, checkpoints."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from virnuc_dask.errors import BadInputError, ModelSetError, PlanChangedError
from virnuc_dask.pretraining.genes import TRAIN, VALIDATION, Gene
from virnuc_dask.pretraining.network import NgramNetwork, chunk_scores, loss_of, merge
from virnuc_dask.pretraining.recipe import NgramRecipe
from virnuc_dask.pretraining.windows import Samples, WindowSource, codes_of, pack
from virnuc_dask.quality.figures import auroc
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.tables.parquet import written_whole

log = logging.getLogger(__name__)

_CHUNKS_AT_ONCE = 2_048
_BATCHES_FOR_NORM = 20  # over which the batch norm of averaged weights is measured
_MOST_VALIDATION_CHUNKS = 12_000  # of each label and length
_WARM_UP_STEPS = 50
_HISTORY, _FINGERPRINT = "history", "fingerprint"

History = list[dict[str, float]]


def train_members(
    genes: Mapping[str, Sequence[Gene]],
    lengths: Sequence[int],
    recipe: NgramRecipe,
    seed: int,
    folder: Path,
    threads: int,
) -> tuple[NgramNetwork, list[History]]:
    """Train all members, each with a seed and a thread of its own.

    Those in ``folder`` already are read.

    Parameters
    ----------
    genes
        By side of the split; `VALIDATION` chooses the step of each member.
    folder
        Gets one file a member, whole or not there.

    Returns
    -------
    NgramNetwork
        The members' mean, in evaluation mode.
    list of list of dict
        For each member its checks: step, loss, and AUROC by chunk length.

    Raises
    ------
    BadInputError
        If the genes are too short or too few to train or choose with.
    PlanChangedError
        If a member in ``folder`` was trained otherwise.
    ModelSetError
        If one is damaged.
    """
    paths = [folder / f"member-{number:02}.safetensors" for number in range(recipe.members)]
    waiting = [number for number, path in enumerate(paths) if not path.exists()]
    fingerprints = [fingerprint(genes, lengths, recipe, seed + n) for n in range(recipe.members)]
    _require_same(paths, fingerprints)
    validation = {length: validation_chunks(genes[VALIDATION], length) for length in lengths}
    source = WindowSource(genes[TRAIN], recipe.noise_share, recipe.mutated_share)
    jobs = [(source, validation, recipe, seed + n, paths[n], fingerprints[n]) for n in waiting]
    _side_by_side(jobs, threads)
    # All are read back, so that a training that was interrupted ends with the same weights.
    members, histories = [], []
    for path in paths:
        network, history = _read_member(path, recipe)
        members.append(network)
        histories.append(history)
        log.info(
            "%d member(s): validation AUROC %s",
            len(members),
            _shown(_quality(merge(members), validation)),
        )
    return merge(members), histories


def _side_by_side(jobs: Sequence[tuple[Any, ...]], processes: int) -> None:
    """`_train_member` for every job, each in a process; none outlives an interruption."""
    if not jobs:
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _start_process) as pool:
        running = [pool.submit(_train_member, *job) for job in jobs]
        try:
            for job in running:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in psutil.Process().children():
                process.terminate()
            raise


def fingerprint(
    genes: Mapping[str, Sequence[Gene]], lengths: Iterable[int], recipe: NgramRecipe, seed: int
) -> str:
    """What a member's weights depend on; how many there are is no part of it."""
    wanted = asdict(recipe) | {"members": 1, "seed": seed, "lengths": list(lengths)}
    digest = xxhash.xxh3_128(json.dumps(wanted, sort_keys=True).encode())
    for part in (TRAIN, VALIDATION):
        for gene in genes[part]:
            digest.update(f"{part} {gene.kind} {gene.dna} ".encode())
    return digest.hexdigest()


def _require_same(paths: Sequence[Path], fingerprints: Sequence[str]) -> None:
    for path, wanted in zip(paths, fingerprints, strict=True):
        if path.exists() and _metadata(path).get(_FINGERPRINT) != wanted:
            raise PlanChangedError(
                f"{path}: was trained on other genes or with other settings; choose another work "
                "folder, or delete the file."
            )


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ModelSetError(f"{path}: damaged: {error}. Delete it to train it again.") from error


def _start_process() -> None:
    """One thread a member: the same weights however many train side by side."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)


def _train_member(
    source: WindowSource,
    validation: Mapping[int, Samples],
    recipe: NgramRecipe,
    seed: int,
    path: Path,
    fingerprint: str,
) -> None:
    network, history = train(source, validation, recipe, seed)
    metadata = {_HISTORY: json.dumps(history), _FINGERPRINT: fingerprint}
    with written_whole(path) as stream:
        stream.write(save(network.state_dict(), metadata))


def _read_member(path: Path, recipe: NgramRecipe) -> tuple[NgramNetwork, History]:
    network = NgramNetwork(recipe.width, recipe.hidden)
    network.load_state_dict(load_file(path))
    history: History = json.loads(_metadata(path)[_HISTORY])
    return network.eval(), history


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
        quality = _quality(network, validation)
        loss, losses = float(np.mean(losses)), []
        history.append({"step": step, "loss": loss, **{str(n): q for n, q in quality.items()}})
        log.info(
            "seed %d, step %d of %d, %.0f s: loss %.4f, validation AUROC %s",
            *(seed, step, recipe.steps, time.perf_counter() - start, loss, _shown(quality)),
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
def _quality(network: NgramNetwork, validation: Mapping[int, Samples]) -> dict[int, float]:
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


def _shown(quality: Mapping[int, float]) -> str:
    return ", ".join(f"{value:.4f} at {length} nt" for length, value in quality.items())
