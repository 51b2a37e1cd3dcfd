"""A trained classifier as a model set: written, calibrated on validation, measured once on test."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from safetensors.torch import save

from virnuc_dask.lab.fitting.classifier_report import ClassifierReport, PartCounts
from virnuc_dask.lab.fitting.fit_classifier import Fitted
from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun
from virnuc_dask.lab.fitting.groups import PARTS, TEST, VALIDATION, Split
from virnuc_dask.lab.fitting.held_out import HeldOut, score_part
from virnuc_dask.lab.fitting.job import Job
from virnuc_dask.lab.fitting.training_records import TrainingRecords
from virnuc_dask.lab.quality import calibrate
from virnuc_dask.lab.quality.assessment import level_quality
from virnuc_dask.lab.quality.figures import Flags
from virnuc_dask.lab.quality.scored import Level
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import (
    ClassifierSpec,
    ContigModelSpec,
    ModelSetInfo,
    verify,
    write_info,
)
from virnuc_dask.modelsets.modelset import ModelSet, load
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.calls import CallRule

log = logging.getLogger(__name__)

VERSION = "1"
_CLASSIFIER = "classifier.safetensors"
_CONTIG_MODEL = ContigModelSpec("contig_model.safetensors")
# Small files are copied: what is written into a linked file changes it everywhere.
_LINKED_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Dataset:
    """The records, their split, and the run with their features."""

    records: TrainingRecords
    split: Split
    run: LabelledRun


@dataclass(frozen=True, slots=True)
class Learned:
    """The outcome of learning; ``classifier`` takes features as the encoders give them."""

    classifier: Classifier
    fitted: Fitted
    training: FrameSet
    validation: FrameSet
    contig_model: ContigModel | None
    contigs: str | None  # what the contig model was learned from


@dataclass(frozen=True, slots=True)
class TrainedSet:
    """A new model set and how good it is."""

    folder: Path
    info: ModelSetInfo
    report: ClassifierReport


def write_trained(folder: Path, job: Job, dataset: Dataset, learned: Learned) -> TrainedSet:
    """Write the model set with its card into ``folder``, replacing an unfinished one.

    What is calibrated and measured are the scores of the written files, made by the functions that
    a run uses.

    Raises
    ------
    ModelSetError
        If a file of the model set to start from is missing or damaged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    info = _write_weights(folder, job, learned)
    models = _classifier_of(folder, info)
    calibration = _calibrate(score_part(dataset.run, VALIDATION, models))
    levels = _levels(score_part(dataset.run, TEST, models), CallRule(calibration), learned)
    report = _report(job, dataset, learned, levels, calibration)
    text = json.dumps(asdict(report), indent=1) + "\n"
    for name, content in (("README.md", report.card()), ("training.json", text)):
        (folder / name).write_text(content, encoding="utf-8")
    finished = replace(
        info,
        training_data=report.training_data,
        quality=report.quality,
        calibration=None if calibration is None else {str(job.chunk_length): calibration},
    )
    return TrainedSet(folder, write_info(folder, finished), report)


def _write_weights(folder: Path, job: Job, learned: Learned) -> ModelSetInfo:
    """The encoders of the base, checked, linked where they are large; and what was learned."""
    base, classifier = job.info, learned.classifier
    specs = (base.nucleotide, base.peptide)
    files = {name for spec in specs for name in (spec.file, spec.tokenizer) if name}
    verify(job.base, base, files)
    folder.mkdir()
    for file in files:
        _place(job.base / file, folder / file)
    # Not save_file, whose files only their owner may read: others are to use them.
    (folder / _CLASSIFIER).write_bytes(save(classifier.state_dict()))
    if learned.contig_model is not None:
        learned.contig_model.save(folder / _CONTIG_MODEL.file)
    info = replace(
        base,
        name=job.name,
        version=VERSION,
        chunk_lengths=(job.chunk_length,),
        classifier=ClassifierSpec(_CLASSIFIER, classifier.hidden.out_features),
        licence=f"encoders: {base.licence}; classifier: whoever trained it decides",
        quality={},
        calibration=None,
        contig_model=None if learned.contig_model is None else _CONTIG_MODEL,
    )
    return write_info(folder, info)


def _place(source: Path, target: Path) -> None:
    if source.stat().st_size >= _LINKED_BYTES:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _classifier_of(folder: Path, info: ModelSetInfo) -> ModelSet:
    source = ModelSource.of(str(folder), info, device="cpu")
    return load(replace(source, encoders=False))


def _calibrate(validation: HeldOut) -> Calibration | None:
    contigs, is_virus = validation.pieces()
    fewest = min(_by_class(is_virus))
    if fewest < calibrate.FEWEST_CONTIGS:
        log.warning(
            "%d validation contigs of one class are too few to calibrate with (%d are needed): the "
            "model set gives scores, no probabilities.",
            fewest,
            calibrate.FEWEST_CONTIGS,
        )
        return None
    return calibrate.fit(contigs, is_virus)


def _levels(test: HeldOut, rule: CallRule, learned: Learned) -> dict[str, Level]:
    """What is measured on the test part; with a contig model records without it as well."""
    levels = {"frames": test.frames, "chunks": test.chunks, "contigs": test.contigs(rule)}
    if learned.contig_model is not None:
        levels["contigs_by_mean"] = levels["contigs"]
        levels["contigs"] = test.contigs(replace(rule, contig_model=learned.contig_model))
    return levels


def _report(
    job: Job,
    dataset: Dataset,
    learned: Learned,
    levels: dict[str, Level],
    calibration: Calibration | None,
) -> ClassifierReport:
    base, fitted = job.info, learned.fitted
    before = score_part(dataset.run, TEST, _classifier_of(job.base, base))
    return ClassifierReport(
        name=job.name,
        base=f"{base.name} {base.version}",
        base_checksum=base.checksum,
        chunk_length=job.chunk_length,
        command=job.command,
        files=dataset.records.files,
        left_out=dataset.records.left_out,
        groups=job.options.groups.name if job.options.groups else None,
        parts=_counts(dataset, learned, levels["frames"]),
        recipe=job.options.recipe,
        best=fitted.best,
        history=fitted.history,
        device=fitted.device,
        threads=fitted.threads,
        calibration=None if calibration is None else calibration.method,
        test={name: level_quality(level) for name, level in levels.items()},
        base_test_auroc=level_quality(before.chunks)["auroc"],
        contig_model=learned.contigs,
    )


def _counts(dataset: Dataset, learned: Learned, test: Level) -> dict[str, PartCounts]:
    frames = (learned.training.is_virus, learned.validation.is_virus, test.is_virus)
    part_of, is_virus = dataset.split.part, dataset.records.is_virus
    return {
        name: PartCounts(groups, _by_class(is_virus[part_of == part]), _by_class(frames[part]))
        for part, (name, groups) in enumerate(zip(PARTS, dataset.split.groups, strict=True))
    }


def _by_class(is_virus: Flags) -> tuple[int, int]:
    viral = int(is_virus.sum())
    return viral, len(is_virus) - viral
