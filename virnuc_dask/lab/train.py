"""``train``: a new classifier for the encoders of a model set, from labelled records."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from virnuc_dask.cluster.connect import reached
from virnuc_dask.cluster.hardware import hardware_of
from virnuc_dask.config import Settings
from virnuc_dask.errors import (
    BadTableError,
    OutputExistsError,
    UsageError,
)
from virnuc_dask.lab.modelset_folders import own_files, put_in_place
from virnuc_dask.lab.fitting.fit_classifier import Epoch, fit_classifier, folded
from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun, store_frames
from virnuc_dask.lab.fitting.groups import (
    PARTS,
    TRAINING,
    Split,
    similar_groups,
    split_groups,
)
from virnuc_dask.lab.fitting.trained_set import (
    Dataset,
    Learned,
    LearnedContigs,
    Origin,
    TrainedSet,
    write_trained,
)
from virnuc_dask.lab.fitting.training_options import TrainingOptions
from virnuc_dask.lab.fitting.training_records import TrainingRecords, gather_records, read_groups
from virnuc_dask.lab.fitting.unseen_frames import score_unseen
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.manifest import MANIFEST, ModelSetInfo, find, read_info
from virnuc_dask.modelsets.modelset import limit_threads, resolve_device
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.planning import chunk_length, decided, require_frames
from virnuc_dask.run import run
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.locks import SOFT, locked
from virnuc_dask.tables.ownership import refuse_loss
from virnuc_dask.tables.parquet import is_half_written
from virnuc_dask.tables.paths import writing
from virnuc_dask.tables.plan import read_plan

log = logging.getLogger(__name__)

_EXTRA = {"sklearn": "scikit-learn", "lightgbm": "lightgbm", "numba": "numba"}
_LOCK = ".lock"
_FOLDS = 5  # each is scored by a classifier of the others, for the contig model
_LARGE_GROUP = 0.5  # share of the data from which on a group is worth a warning


@dataclass(frozen=True, slots=True)
class _Job:
    """What all steps of one training share."""

    virus: tuple[str, ...]
    other: tuple[str, ...]
    out: Path
    settings: Settings
    options: TrainingOptions
    base: Path
    info: ModelSetInfo  # of the base
    resume: bool
    force: bool
    console: Console | None

    @property
    def work(self) -> Path:
        """Where the run and the frames lie while training."""
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def scratch(self) -> tuple[Path, ...]:
        """Files that lie there besides the run and the model set until it is done."""
        frames = (f"{part}.float16" for part in PARTS)
        return tuple(self.work / name for name in (*frames, "records.fasta"))

    @property
    def run_folder(self) -> RunFolder:
        """The run that makes the features."""
        return RunFolder(self.work / "run")

    @property
    def origin(self) -> Origin:
        """What the new model set is called, and what it comes from."""
        options = self.options
        return Origin(
            name=options.name or self.out.resolve().name,
            base=self.base,
            chunk_length=chunk_length(self.settings, self.info),
            recipe=options.recipe,
            command=_command(self),
            groups=options.groups.name if options.groups else None,
        )


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

    Records are split by group into training, validation and test. Features come from a run in
    ``OUT.work``, which ends with the training and can be resumed until then.

    Parameters
    ----------
    virus, other
        FASTA, FASTQ or GenBank files of the two classes.
    out
        Folder of the new model set.
    settings
        Where to compute; its model set gives the encoders.
    keep
        Files that must not be replaced, besides those of records and groups.

    Raises
    ------
    UsageError
        If a setting, a file or a folder cannot be used so, or there are too few groups to split.
    BadInputError
        If a file cannot be read, or a class is missing.
    LostRowsError
        If a partition failed.
    """
    _require_extra()
    settings = settings or Settings()
    base = find(settings.model)
    info, settings = _decided(base, out, settings)
    job = _Job(
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
        _refuse_existing(job)
        _refuse_loss(job, keep)
    with _held(job):
        dataset = _features(job)
        learned = _learn(job, dataset)
        trained = write_trained(job.work / "modelset", job.origin, dataset, learned)
        put_in_place(trained.folder, out)
        if not job.options.keep_work:
            job.run_folder.remove()
    return replace(trained, folder=out)


def _require_extra() -> None:
    if missing := [name for module, name in _EXTRA.items() if find_spec(module) is None]:
        raise UsageError(
            f"training needs {', '.join(missing)}: pip install 'virnuc-dask[training]'."
        )


def _decided(base: Path, out: Path, settings: Settings) -> tuple[ModelSetInfo, Settings]:
    if out.resolve() == base:
        raise UsageError(f"{out}: is the model set to start from; choose another folder.")
    info = read_info(base)
    require_frames(info, "train")
    with reached(settings.cluster) as client:
        hardware = hardware_of(settings.cluster, client)
    # A false discovery rate is for calls, which are not made here, and needs a calibration.
    settings = decided(replace(settings, features=True, fdr=None), info, hardware)
    chunk_length(settings, info)
    return info, settings


def _refuse_existing(job: _Job) -> None:
    """Nothing but a model set and what a training left is ever replaced."""
    if job.out.exists() and not job.force:
        raise OutputExistsError(f"{job.out}: exists already; replace it with --force.")
    _refuse_strangers(job)
    if (job.work / "run").exists() and not (job.resume or job.force):
        raise OutputExistsError(
            f"{job.work}: holds an earlier training. Continue it with --resume, or start anew with "
            "--force."
        )


def _refuse_strangers(job: _Job) -> None:
    """The working folder is used only if a training made it: its lock, and names of ours."""
    if not job.work.exists():
        return
    locks = {_LOCK, _LOCK + SOFT}
    own = {"run", "modelset", *locks, *(path.name for path in job.scratch)}
    present = {path.name for path in job.work.iterdir() if not is_half_written(path.name)}
    others = present - own if present & locks else present
    if (job.work / "modelset" / MANIFEST).exists():
        list(own_files(job.work / "modelset"))
    if others:
        raise OutputExistsError(
            f"{job.work / min(others)}: is no part of a training, which works in {job.work}. Move "
            "it away, or choose another folder."
        )


def _refuse_loss(job: _Job, keep: Sequence[str | os.PathLike[str]]) -> None:
    """Check that nothing that is read will be replaced."""
    groups = (job.options.groups,) if job.options.groups else ()
    read = (*job.virus, *job.other, *groups, *keep)
    refuse_loss((*(own_files(job.out) if job.out.exists() else ()), *job.scratch), read)
    if job.run_folder.is_run:
        job.run_folder.refuse_loss(read)


@contextmanager
def _held(job: _Job) -> Iterator[None]:
    """Keep other trainings out; a training without a run leaves no folder behind."""
    with writing(job.work):
        job.work.mkdir(parents=True, exist_ok=True)
    with locked(job.work / _LOCK, f"{job.work}: another training is writing here."):
        try:
            yield
        finally:
            if not (job.work / "run").exists():
                for path in (*job.scratch, job.work / _LOCK):
                    path.unlink(missing_ok=True)
                with suppress(OSError):
                    job.work.rmdir()


def _features(job: _Job) -> Dataset:
    """Read and split the records, and make their feature tables."""
    groups = read_groups(job.options.groups) if job.options.groups else None
    fasta, cds_only = job.work / "records.fasta", job.options.cds_only
    records = gather_records(job.virus, job.other, fasta, groups=groups, cds_only=cds_only)
    split = _split(job, records)
    folder = job.run_folder
    how: dict[str, Any] = {"resume": job.resume, "force": job.force, "console": job.console}
    run([fasta], folder.path, settings=job.settings, **how).require_complete()
    if (plan := read_plan(folder)) is None:
        raise BadTableError(f"{folder.path}: lost its plan; start anew with --force.")
    labelled = LabelledRun(plan, records.is_virus, records.length_nt, split.part, records.coding)
    return Dataset(records, split, labelled)


def _split(job: _Job, records: TrainingRecords) -> Split:
    group = records.group
    if group is None:
        _tell("looking for records that share a 31-mer")
        fasta = [str(records.fasta)]
        group = similar_groups(lambda: (r.dna for r in read_records(fasta)), records.length_nt)
    options = job.options
    split = split_groups(
        group, records.is_virus, records.usable_nt, options.shares, options.recipe.seed
    )
    told = (f"{name} {v:,} / {o:,}" for name, (v, o) in zip(PARTS, split.groups, strict=True))
    _tell(f"groups of virus / others: {', '.join(told)}")
    if split.largest > _LARGE_GROUP:
        log.warning(
            "one group holds %.0f %% of the data; the split cannot keep its shares. --groups takes "
            "groups of your own.",
            100 * split.largest,
        )
    return split


def _learn(job: _Job, dataset: Dataset) -> Learned:
    """Fit the classifier, here, on a GPU if there is one."""
    scaling, training, validation = store_frames(dataset.run, job.work)
    source = ModelSource.from_settings(job.settings, job.info, encoders=False)
    # Workers may have a GPU where this machine has none.
    device = resolve_device(replace(source, device="cpu" if source.device == "cpu" else "auto"))
    limit_threads(job.settings.cluster.threads)
    _tell(
        f"learning from {len(training.is_virus):,} frames ({int(training.is_virus.sum()):,} viral) "
        f"on {device}"
    )
    fitted = fit_classifier(training, validation, job.options.recipe, device, _tell_epoch)
    # As long as the best epoch took.
    recipe = replace(job.options.recipe, epochs=fitted.best.number)

    def learn(frames: FrameSet) -> Classifier:
        return folded(fit_classifier(frames, validation, recipe, device).classifier, scaling)

    contigs = _learn_contigs(job, dataset, training, learn)
    if contigs is None:
        _tell(
            "no contig model: too few training groups have records of several chunks; the mean of "
            "its chunks decides a record's call"
        )
    return Learned(folded(fitted.classifier, scaling), fitted, training, validation, contigs)


def _learn_contigs(
    job: _Job, dataset: Dataset, training: FrameSet, learn: Callable[[FrameSet], Classifier]
) -> LearnedContigs | None:
    """Fit the contig model to training records; None if too few are long enough."""
    from virnuc_dask.lab import frame_contigs

    records, split, seed = dataset.records, dataset.split, job.options.recipe.seed
    weight = np.where(split.part == TRAINING, records.usable_nt, 0)
    shares = (1 / _FOLDS,) * _FOLDS
    try:
        fold = split_groups(split.group, records.is_virus, weight, shares, seed).part
    except UsageError:  # fewer groups than folds
        return None
    labelled = frame_contigs.Labelled(
        records.length_nt, records.is_virus, split.group, fold, job.origin.chunk_length
    )
    if (drawn := frame_contigs.draw(labelled, seed)) is None:
        return None
    viral = int(records.is_virus[drawn.record].sum())
    made_from = (
        f"{viral:,} contigs of virus and {len(drawn.record) - viral:,} of others, of "
        f"{drawn.length_nt.min():,} to {drawn.length_nt.max():,} nt"
    )
    _tell(f"learning a contig model from {made_from}")
    frames = score_unseen(dataset.run, training, fold, learn)
    return LearnedContigs(frame_contigs.learn(drawn, frames, labelled, seed), made_from)


def _command(job: _Job) -> tuple[str, ...]:
    """The command that trains the same again, defaults spelt out."""
    options, recipe = job.options, job.options.recipe
    given = {
        "--model": job.settings.model,
        "-o": job.out,
        "--length": chunk_length(job.settings, job.info),
        "--precision": job.settings.precision,
        "--split": "/".join(f"{100 * share:g}" for share in options.shares),
        "--groups": options.groups,
        "--name": options.name or None,
        **{f"--{name}": getattr(recipe, name) for name in ("hidden", "epochs", "patience", "seed")},
    }
    texts = (text for flag in given.items() if flag[1] is not None for text in map(str, flag))
    files = ("--virus", *job.virus, "--other", *job.other)
    return ("virnuc-dask", "train", *files, *texts, *(["--cds-only"] * options.cds_only))


def _tell(line: str) -> None:
    log.info(line, extra={"headline": True})


def _tell_epoch(epoch: Epoch) -> None:
    _tell(
        f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation loss "
        f"{epoch.validation_loss:.4f}, validation AUROC {epoch.validation_auroc:.4f}"
    )
