"""``pretrain``: a model set of its own encoders from labelled sequences, measured and described."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import OutputExistsError, UsageError
from virnuc_dask.evaluate import evaluate
from virnuc_dask.modelsets.calibration import Calibration, margins
from virnuc_dask.modelsets.folders import own_files, put_in_place
from virnuc_dask.modelsets.modelset import limit_threads
from virnuc_dask.modelsets.registry import MANIFEST, ModelSetInfo, write_info
from virnuc_dask.pretraining.card import PretrainingReport
from virnuc_dask.pretraining.export import (
    describe,
    describe_encoders,
    write_untrained,
    write_weights,
)
from virnuc_dask.pretraining.frame_source import WindowFrames
from virnuc_dask.pretraining.genes import TEST, TRAIN, VALIDATION
from virnuc_dask.pretraining.learning import History
from virnuc_dask.pretraining.material import (
    OTHER_VIRUSES,
    PHAGES,
    Material,
    gather,
    write_contigs,
    write_genes,
    write_noise,
    write_sample,
)
from virnuc_dask.pretraining.members import train_members
from virnuc_dask.pretraining.recipe import PretrainSettings
from virnuc_dask.pretraining.transformers import pretrain_encoders
from virnuc_dask.quality.calibrate import fit
from virnuc_dask.run import run
from virnuc_dask.tables.locks import locked
from virnuc_dask.tables.parquet import local
from virnuc_dask.tables.paths import writing
from virnuc_dask.train import train
from virnuc_dask.training.training_options import TrainingOptions

log = logging.getLogger(__name__)

_VIRUSES = (PHAGES, OTHER_VIRUSES)
_CURVES = "curves"


@dataclass(frozen=True, slots=True)
class _Job:
    """What the steps share."""

    settings: PretrainSettings
    console: Console | None

    @property
    def work(self) -> Path:
        """Where everything lies that the model set does not hold."""
        return Path(self.settings.work)

    @property
    def modelset(self) -> Path:
        """The model set until it is done."""
        return self.work / "modelset"

    def running(self, length: int) -> Settings:
        """Settings of the runs that calibrate and measure."""
        cluster = ClusterSettings(kind="none", threads=self.settings.threads)
        return Settings(model=str(self.modelset), length=length, features=False, cluster=cluster)


def pretrain(
    settings: PretrainSettings, *, force: bool = False, console: Console | None = None
) -> PretrainingReport:
    """Train encoders and a classifier, calibrate them, measure them on held-out genomes.

    What was finished before an interruption is not done again.

    Raises
    ------
    UsageError
        If the model set is there already and ``force`` is not set, MMseqs2 is missing, or another
        training writes into the same folder.
    BadInputError
        If a file cannot be read, or holds too little.
    """
    out = Path(settings.out)
    job = _Job(settings, console)
    _require_apart(out.resolve(), job.work.resolve())
    _require_free(out, force)
    _require_own(job.work)
    with writing(job.work):
        job.work.mkdir(parents=True, exist_ok=True)
    with locked(job.work / ".lock", f"{job.work}: another training is writing here."):
        report = _pretrain(job)
    _require_free(out, force)
    _install(job.modelset, out.resolve())
    return report


def _require_apart(out: Path, work: Path) -> None:
    """The model set's folder is replaced as a whole: nothing else may be in it."""
    if out == work or out in work.parents or work in out.parents:
        raise UsageError(f"out ({out}) and work ({work}): neither folder may hold the other.")


def _require_free(out: Path, force: bool) -> None:
    if out.exists() and not (force and (out / MANIFEST).is_file()):
        raise OutputExistsError(
            f"{out}: exists already; replace it with --force, if it is a model set."
        )
    if out.exists():
        list(own_files(out))


def _require_own(work: Path) -> None:
    """The working folder is used only if it is empty, or a training's."""
    if work.exists() and any(work.iterdir()) and not (work / ".lock").exists():
        raise OutputExistsError(f"{work}: not empty, and no training's; choose another folder.")


def _install(modelset: Path, out: Path) -> None:
    """Copy the model set to where it is wanted, whole or not at all."""
    part = out.with_name(f".{out.name}.{uuid4().hex[:12]}.part")
    try:
        shutil.copytree(modelset, part)
        put_in_place(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _pretrain(job: _Job) -> PretrainingReport:
    limit_threads(job.settings.threads)
    material = gather(job.settings, job.work)
    info, histories = _train(job, material)
    calibrations = {n: _calibrate(job, material, n) for n in info.chunk_lengths}
    info = replace(info, calibration={str(n): asdict(c) for n, c in calibrations.items()})
    info = write_info(job.modelset, info)
    report = PretrainingReport(
        settings=job.settings,
        counts=material.counts,
        left_out=material.left_out,
        sha256=material.sha256,
        histories=histories,
        calibrations={n: c.method for n, c in calibrations.items()},
        evaluations=_measure(job, material, info.chunk_lengths),
    )
    (job.modelset / "README.md").write_text(report.card(), encoding="utf-8")
    write_info(job.modelset, replace(info, quality=report.quality))
    text = json.dumps(report.as_json(), indent=1) + "\n"
    (job.work / "report.json").write_text(text, encoding="utf-8")
    return report


def _train(job: _Job, material: Material) -> tuple[ModelSetInfo, list[History]]:
    """Write the model set, not calibrated yet; n-gram networks leave a history, too."""
    if job.settings.encoders == "transformers":
        return _train_transformers(job, material), []
    settings = job.settings
    network, histories = train_members(
        material.parts,
        settings.chunk_lengths,
        settings.ngrams,
        settings.seed,
        job.work,
        settings.threads,
    )
    shutil.rmtree(job.modelset, ignore_errors=True)
    write_weights(network, job.modelset)
    info = describe(network, settings, material.described(settings.seed))
    return write_info(job.modelset, info), histories


def _train_transformers(job: _Job, material: Material) -> ModelSetInfo:
    """Encoders by masked modelling, then a classifier by `train`, for the first chunk length."""
    settings, base = job.settings, job.work / "encoders"
    source = WindowFrames(material.parts[TRAIN], material.parts[VALIDATION])
    encoders = pretrain_encoders(source, settings.transformers, base, log)
    info = describe_encoders(encoders, settings, material.described(settings.seed))
    write_untrained(base, info)
    info = write_info(base, info)
    folder = job.work / "classifier"
    sample = write_sample(material, settings.classifier_genes, folder, settings.seed)
    done = train(
        sample.virus,
        sample.other,
        job.modelset,
        settings=replace(job.running(settings.chunk_lengths[0]), model=str(base)),
        options=TrainingOptions(name=settings.name, groups=sample.groups),
        force=True,
        console=job.console,
    )
    info = replace(done.info, version=settings.version, licence=settings.licence, calibration=None)
    return write_info(job.modelset, info)


def _calibrate(job: _Job, material: Material, length: int) -> Calibration:
    """Fit the calibration of one chunk length to contigs of the validation genomes."""
    sure = material.without_doubtful(VALIDATION)
    groups = write_contigs(sure, VALIDATION, job.work / "validation")
    is_virus: list[bool] = []
    contigs: list[Any] = []
    for group, path in groups.items():
        folder = job.work / "runs" / f"{group}-{length}"
        done = run([str(path)], folder, settings=job.running(length), force=True)
        done.require_complete()
        found = _margins_of_records(done.folder / "chunks.parquet")
        contigs += found
        is_virus += [group in _VIRUSES] * len(found)
    log.info("calibrating at %d nt on %d contigs", length, len(contigs))
    return fit(contigs, is_virus)


def _margins_of_records(chunks: Path) -> list[Any]:
    """The margins of each record's scored chunks."""
    table = pq.read_table(local(chunks))
    table = table.filter(table["call"].is_valid())
    found = margins(table["score_virus"].to_numpy(), table["score_others"].to_numpy())
    record = table["record_index"].to_numpy()
    return np.split(found, np.flatnonzero(np.diff(record)) + 1)


def _measure(job: _Job, material: Material, lengths: Sequence[int]) -> dict[str, Any]:
    """Evaluations on the held-out side: of genes, of contigs, of noise.

    If the calibration is of sure genes, genes and contigs without doubtful ones as well.
    """
    sequences = {
        "genes": write_genes(material, TEST, job.work / "test" / "genes"),
        "contigs": write_contigs(material, TEST, job.work / "test" / "contigs"),
    }
    noise = write_noise(material, TEST, job.work / "test" / "noise")
    sequences["noise"] = {n: p for n, p in sequences["genes"].items() if n in _VIRUSES} | noise
    if material.doubtful:
        sure, place = material.without_doubtful(TEST), job.work / "test"
        sequences["sure_genes"] = write_genes(sure, TEST, place / "sure_genes")
        sequences["sure_contigs"] = write_contigs(sure, TEST, place / "sure_contigs")
    return {
        name: _evaluate(job, groups, job.work / "evaluation" / name, lengths)
        for name, groups in sequences.items()
    }


def _evaluate(
    job: _Job, groups: Mapping[str, Path], out: Path, lengths: Sequence[int]
) -> dict[str, Any]:
    content = evaluate(
        [job.modelset],
        [path for name, path in groups.items() if name in _VIRUSES],
        [path for name, path in groups.items() if name not in _VIRUSES],
        out,
        job.running(lengths[0]),
        lengths,
        force=True,
        console=job.console,
    )
    for evaluation in content["evaluations"]:
        del evaluation[_CURVES]
    return content
