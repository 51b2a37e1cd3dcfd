"""Several networks trained side by side, each a member of one model set, kept one file each."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from virnuc_dask.errors import ModelSetError, PlanChangedError
from virnuc_dask.pretraining.genes import TRAIN, VALIDATION, Gene
from virnuc_dask.pretraining.learning import History, chunk_aurocs, shown, train, validation_chunks
from virnuc_dask.pretraining.network import NgramNetwork, merge
from virnuc_dask.pretraining.recipe import NgramRecipe
from virnuc_dask.pretraining.windows import Samples, WindowSource
from virnuc_dask.tables.parquet import written_whole

log = logging.getLogger(__name__)

_HISTORY, _FINGERPRINT = "history", "fingerprint"


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
            shown(chunk_aurocs(merge(members), validation)),
        )
    return merge(members), histories


def _side_by_side(jobs: Sequence[tuple[Any, ...]], processes: int) -> None:
    """`_train_member` for every job, each in a process; none outlives an interruption."""
    if not jobs:
        return
    context = get_context("spawn")
    others = psutil.Process().children()
    with ProcessPoolExecutor(min(processes, len(jobs)), context, _start_process) as pool:
        running = [pool.submit(_train_member, *job) for job in jobs]
        try:
            for job in running:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(psutil.Process().children()) - set(others):
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
