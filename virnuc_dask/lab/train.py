"""``train``: a new classifier for the encoders of a model set, from labelled records."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from virnuc_dask.cluster.connect import reached
from virnuc_dask.cluster.hardware import hardware_of
from virnuc_dask.config import Settings
from virnuc_dask.errors import BadTableError, UsageError
from virnuc_dask.lab.fitting.fit_classifier import Epoch, fit_classifier, folded
from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun, store_frames
from virnuc_dask.lab.fitting.groups import Split, similar_groups, split_groups
from virnuc_dask.lab.fitting.held_out import score_unseen
from virnuc_dask.lab.fitting.job import Job
from virnuc_dask.lab.fitting.options import PARTS, TRAINING, TrainingOptions
from virnuc_dask.lab.fitting.trained_set import Dataset, Learned, TrainedSet, write_trained
from virnuc_dask.lab.fitting.training_records import TrainingRecords, gather_records, read_groups
from virnuc_dask.lab.installed import require
from virnuc_dask.lab.modelset_folders import put_in_place
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import ModelSetInfo, find, read_info
from virnuc_dask.modelsets.modelset import limit_threads, resolve_device
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.planning import chunk_length, decided
from virnuc_dask.run import run
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.paths import writing
from virnuc_dask.tables.plan import read_plan

log = logging.getLogger(__name__)

_FOLDS = 5  # each is scored by a classifier of the others, for the contig model
_LARGE_GROUP = 0.5  # share of the data from which on a group is worth a warning


def train(
    virus: Sequence[str | os.PathLike[str]],
    other: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    settings: Settings | None = None,
    options: TrainingOptions | None = None,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
    keep: Sequence[str | os.PathLike[str]] = (),
) -> TrainedSet:
    """Train a classifier and write it as a model set, with its quality on records it never saw.

    Records of FASTA, FASTQ or GenBank files are split by group into training, validation and test.
    Features come from a run in ``OUT.work``, which ends with the training and can be resumed until
    then. The model set of ``settings`` gives the encoders. Files to ``keep``, besides those of
    records and groups, are not replaced.

    `UsageError` if a setting, a file or a folder cannot be used so, or there are too few groups to
    split. `BadInputError` if a file cannot be read, or a class is missing. `LostRowsError` if a
    partition failed.
    """
    require("training", "scikit-learn", "lightgbm", "numba")
    settings = settings or Settings()
    base = find(settings.model)
    info, settings = _decided(base, out, settings)
    job = Job(
        virus=tuple(os.fspath(file) for file in virus),
        other=tuple(os.fspath(file) for file in other),
        out=out,
        settings=settings,
        options=options or TrainingOptions(),
        base=base,
        info=info,
        resume=resume,
        force=force,
        console=console,
    )
    with writing(out):
        job.refuse_loss(keep)
    with job.working():
        dataset = _features(job)
        trained = write_trained(job.work / "modelset", job, dataset, _learn(job, dataset))
        put_in_place(trained.folder, out)
        if not job.options.keep_work:
            job.run_folder.remove()
    return replace(trained, folder=out)


def _decided(base: Path, out: Path, settings: Settings) -> tuple[ModelSetInfo, Settings]:
    if out.resolve() == base:
        raise UsageError(f"{out}: is the model set to start from; choose another folder.")
    info = read_info(base)
    if info.reads_genes:
        raise UsageError(
            f"train: model set {info.name!r} reads genes, and train knows frames of chunks alone. "
            "Name the folder of a set that reads frames; `virnuc-dask models import` makes one "
            "from published checkpoints."
        )
    with reached(settings.cluster) as client:
        hardware = hardware_of(settings.cluster, client)
    # A false discovery rate is for calls, which are not made here, and needs a calibration.
    settings = decided(replace(settings, features=True, fdr=None), info, hardware)
    chunk_length(settings, info)
    return info, settings


def _features(job: Job) -> Dataset:
    """Read and split the records, and make their feature tables."""
    groups = read_groups(job.options.groups) if job.options.groups else None
    records = gather_records(job.virus, job.other, job.work / "records.fasta", groups)
    split = _split(job, records)
    folder = job.run_folder
    done = run(
        [records.fasta],
        folder.path,
        settings=job.settings,
        resume=job.resume,
        force=job.force,
        console=job.console,
    )
    done.require_complete()
    if (plan := read_plan(folder)) is None:
        raise BadTableError(f"{folder.path}: lost its plan; start anew with --force.")
    return Dataset(
        records, split, LabelledRun(plan, records.is_virus, records.length_nt, split.part)
    )


def _split(job: Job, records: TrainingRecords) -> Split:
    group, options = records.group, job.options
    if group is None:
        _tell("looking for records that share a 31-mer")
        fasta = [str(records.fasta)]
        group = similar_groups(lambda: (r.dna for r in read_records(fasta)), records.length_nt)
    split = split_groups(group, records.is_virus, records.length_nt, options.shares, options.seed)
    told = (f"{name} {v:,} / {o:,}" for name, (v, o) in zip(PARTS, split.groups, strict=True))
    _tell(f"groups of virus / others: {', '.join(told)}")
    if split.largest > _LARGE_GROUP:
        log.warning(
            "one group holds %.0f %% of the data; the split cannot keep its shares. --groups takes "
            "groups of your own.",
            100 * split.largest,
        )
    return split


def _learn(job: Job, dataset: Dataset) -> Learned:
    """Fit the classifier and the contig model, here, on a GPU if there is one."""
    scaling, training, validation = store_frames(dataset.run, job.work)
    source = ModelSource.from_settings(job.settings, job.info, encoders=False)
    # Workers may have a GPU where this machine has none.
    device = resolve_device(replace(source, device="cpu" if source.device == "cpu" else "auto"))
    limit_threads(job.settings.cluster.threads)
    viral = int(training.is_virus.sum())
    _tell(f"learning from {len(training.is_virus):,} frames ({viral:,} viral) on {device}")
    fitted = fit_classifier(training, validation, job.options, device, _tell_epoch)
    # As long as the best epoch took.
    recipe = replace(job.options, epochs=fitted.best.number)

    def learn(frames: FrameSet) -> Classifier:
        return folded(fit_classifier(frames, validation, recipe, device).classifier, scaling)

    model, made_from = _learn_contigs(job, dataset, training, learn)
    if model is None:
        _tell(
            "no contig model: too few training groups have records of several chunks; the mean of "
            "its chunks decides a record's call"
        )
    classifier = folded(fitted.classifier, scaling)
    return Learned(classifier, fitted, training, validation, model, made_from)


def _learn_contigs(
    job: Job, dataset: Dataset, training: FrameSet, learn: Callable[[FrameSet], Classifier]
) -> tuple[ContigModel | None, str | None]:
    """A contig model of training records, and what it was made from; none if few are long."""
    from virnuc_dask.lab import frame_contigs

    records, split, seed = dataset.records, dataset.split, job.options.seed
    weight = np.where(split.part == TRAINING, records.length_nt, 0)
    shares = (1 / _FOLDS,) * _FOLDS
    try:
        fold = split_groups(split.group, records.is_virus, weight, shares, seed).part
    except UsageError:  # fewer groups than folds
        return None, None
    labelled = frame_contigs.Labelled(
        records.length_nt, records.is_virus, split.group, fold, job.chunk_length
    )
    if (drawn := frame_contigs.draw(labelled, seed)) is None:
        return None, None
    viral = int(records.is_virus[drawn.record].sum())
    made_from = (
        f"{viral:,} contigs of virus and {len(drawn.record) - viral:,} of others, of "
        f"{drawn.length_nt.min():,} to {drawn.length_nt.max():,} nt"
    )
    _tell(f"learning a contig model from {made_from}")
    frames = score_unseen(dataset.run, training, fold, learn)
    return frame_contigs.learn(drawn, frames, labelled, seed), made_from


def _tell(line: str) -> None:
    log.info(line, extra={"headline": True})


def _tell_epoch(epoch: Epoch) -> None:
    _tell(
        f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation loss "
        f"{epoch.validation_loss:.4f}, validation AUROC {epoch.validation_auroc:.4f}"
    )
