"""``train``: a new classifier for the encoders of a model set, from labelled records."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from virnuc_dask.cluster.connect import reached
from virnuc_dask.cluster.hardware import hardware_of
from virnuc_dask.config import Settings
from virnuc_dask.errors import (
    BadTableError,
    OutputExistsError,
    OutputInUseError,
    UsageError,
)
from virnuc_dask.modelsets.modelset import limit_threads, resolve_device
from virnuc_dask.modelsets.registry import MANIFEST, ModelSetInfo, find, read_info
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.planning import chunk_length, with_precision
from virnuc_dask.run import run
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan
from virnuc_dask.training.fit_classifier import Epoch, fit_classifier, folded
from virnuc_dask.training.frame_features import LabelledRun, store_frames
from virnuc_dask.training.groups import PARTS, Split, similar_groups, split_groups
from virnuc_dask.training.trained_set import (
    Learned,
    Material,
    Origin,
    TrainedSet,
    write_trained,
)
from virnuc_dask.training.training_options import TrainingOptions
from virnuc_dask.training.training_records import TrainingRecords, gather_records, read_groups

log = logging.getLogger(__name__)

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

    @property
    def work(self) -> Path:
        """Where the run and the frames lie while training."""
        return self.out.with_name(f"{self.out.name}.work")

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
    job = _job(virus, other, out, settings or Settings(), options or TrainingOptions())
    _refuse_existing(job, resume=resume, force=force)
    with _held(job.work):
        if force:
            shutil.rmtree(job.work / "run", ignore_errors=True)
        material = _features(job, resume=resume, console=console)
        learned = _learn(job, material)
        folder = job.work / "modelset"
        trained = write_trained(folder, job.origin, material, learned)
        if out.exists():
            shutil.rmtree(out)
        trained.folder.rename(out)
    if not job.options.keep_work:
        shutil.rmtree(job.work)
    return replace(trained, folder=out)


def _require_extra() -> None:
    if find_spec("sklearn") is None:
        raise UsageError("training needs scikit-learn: pip install 'virnuc-dask[training]'.")


def _job(
    virus: Sequence[str | os.PathLike[str]],
    other: Sequence[str | os.PathLike[str]],
    out: Path,
    settings: Settings,
    options: TrainingOptions,
) -> _Job:
    base = find(settings.model)
    if out.resolve() == base:
        raise UsageError(f"{out}: is the model set to start from; choose another folder.")
    # A false discovery rate is for calls, which nobody reads here, and needs a calibration.
    info = read_info(base)
    with reached(settings.cluster) as client:
        hardware = hardware_of(settings.cluster, client)
    settings = with_precision(replace(settings, features=True, fdr=None), info, hardware)
    job = _Job(_texts(virus), _texts(other), out, settings, options, base, info)
    chunk_length(settings, job.info)
    return job


def _texts(files: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    return tuple(os.fspath(file) for file in files)


def _refuse_existing(job: _Job, *, resume: bool, force: bool) -> None:
    """Nothing but a model set and what a training left is ever replaced."""
    if job.out.exists() and not force:
        raise OutputExistsError(f"{job.out}: exists already; replace it with --force.")
    if job.out.exists() and not (job.out / MANIFEST).is_file():
        raise OutputExistsError(f"{job.out}: is no model set; choose another folder.")
    if (job.work / "run").exists() and not (resume or force):
        raise OutputExistsError(
            f"{job.work}: holds an earlier training. Continue it with --resume, or start anew with "
            "--force."
        )


@contextmanager
def _held(work: Path) -> Iterator[None]:
    """Keep other trainings out; a training that is refused leaves no folder behind."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0):
            try:
                yield
            finally:
                if not (work / "run").exists():
                    shutil.rmtree(work)
    except Timeout as error:
        raise OutputInUseError(f"{work}: another training is writing here.") from error


def _features(job: _Job, *, resume: bool, console: Console | None) -> Material:
    """Read and split the records, and make their feature tables."""
    groups = read_groups(job.options.groups) if job.options.groups else None
    records = gather_records(
        job.virus,
        job.other,
        job.work / "records.fasta",
        groups=groups,
        cds_only=job.options.cds_only,
    )
    split = _split(job, records)
    done = run(
        [records.fasta], job.run_folder.path, settings=job.settings, resume=resume, console=console
    )
    done.require_complete()
    plan = read_plan(job.run_folder)
    if plan is None:
        raise BadTableError(f"{job.run_folder.path}: lost its plan; start anew with --force.")
    labelled = LabelledRun(plan, records.is_virus, records.length_nt, split.part, records.coding)
    return Material(records, split, labelled)


def _split(job: _Job, records: TrainingRecords) -> Split:
    group = records.group
    if group is None:
        _tell("looking for records that share a 31-mer")
        group = similar_groups(lambda: _dna(records.fasta), records.length_nt)
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


def _dna(fasta: Path) -> Iterator[str]:
    return (record.dna for record in read_records([str(fasta)]))


def _learn(job: _Job, material: Material) -> Learned:
    """Fit the classifier, here, on a GPU if there is one."""
    scaling, training, validation = store_frames(material.run, job.work)
    source = ModelSource.from_settings(job.settings, job.info, encoders=False)
    # Workers may have a GPU where this machine has none.
    device = resolve_device(replace(source, device="cpu" if source.device == "cpu" else "auto"))
    limit_threads(job.settings.cluster.threads)
    _tell(
        f"learning from {len(training.is_virus):,} frames ({int(training.is_virus.sum()):,} viral) "
        f"on {device}"
    )
    fitted = fit_classifier(training, validation, job.options.recipe, device, _tell_epoch)
    return Learned(folded(fitted.classifier, scaling), fitted, training, validation)


def _command(job: _Job) -> tuple[str, ...]:
    """The command that trains the same again, defaults spelt out."""
    options, recipe = job.options, job.options.recipe
    shares = "/".join(f"{100 * share:g}" for share in options.shares)
    return (
        *("virnuc-dask", "train", "--virus", *job.virus, "--other", *job.other),
        *(
            "--model",
            job.settings.model,
            "-o",
            str(job.out),
            "--length",
            str(chunk_length(job.settings, job.info)),
        ),
        *("--precision", job.settings.precision, "--split", shares),
        *(("--groups", str(options.groups)) if options.groups else ()),
        *(("--cds-only",) if options.cds_only else ()),
        *(("--name", options.name) if options.name else ()),
        *("--hidden", str(recipe.hidden), "--epochs", str(recipe.epochs)),
        *("--patience", str(recipe.patience), "--seed", str(recipe.seed)),
    )


def _tell(line: str) -> None:
    log.info(line, extra={"headline": True})


def _tell_epoch(epoch: Epoch) -> None:
    _tell(
        f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation loss "
        f"{epoch.validation_loss:.4f}, validation AUROC {epoch.validation_auroc:.4f}"
    )
