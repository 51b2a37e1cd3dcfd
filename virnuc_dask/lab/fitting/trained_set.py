"""A trained classifier as a model set: written, calibrated on validation, measured once on test."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.quality import calibrate
from virnuc_dask.lab.quality.assessment import level_quality
from virnuc_dask.lab.quality.scored import Level
from virnuc_dask.lab.fitting.classifier_report import ClassifierReport, PartCounts
from virnuc_dask.lab.fitting.fit_classifier import ClassifierRecipe, Fitted
from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun
from virnuc_dask.lab.fitting.groups import PARTS, TEST, VALIDATION, Split
from virnuc_dask.lab.fitting.held_out import HeldOut, score_part
from virnuc_dask.lab.fitting.new_modelset import write_modelset
from virnuc_dask.lab.fitting.training_records import TrainingRecords
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import ContigModelSpec, ModelSetInfo, read_info, write_info
from virnuc_dask.modelsets.modelset import ModelSet, load
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.calls import CallRule

log = logging.getLogger(__name__)

_CONTIG_MODEL = ContigModelSpec("contig_model.safetensors")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a new model set is called, and what it comes from."""

    name: str
    base: Path  # folder of the model set that gives the encoders
    chunk_length: int
    recipe: ClassifierRecipe
    command: tuple[str, ...]
    groups: str | None  # file that names the groups


@dataclass(frozen=True, slots=True)
class Dataset:
    """The records, their split, and the run with their features."""

    records: TrainingRecords
    split: Split
    run: LabelledRun


@dataclass(frozen=True, slots=True)
class LearnedContigs:
    """A contig model, and in words what it was learned from."""

    model: ContigModel
    made_from: str


@dataclass(frozen=True, slots=True)
class Learned:
    """The outcome of learning; ``classifier`` takes features as the encoders give them."""

    classifier: Classifier
    fitted: Fitted
    training: FrameSet
    validation: FrameSet
    contigs: LearnedContigs | None = None


@dataclass(frozen=True, slots=True)
class TrainedSet:
    """A new model set and how good it is."""

    folder: Path
    info: ModelSetInfo
    report: ClassifierReport


def write_trained(folder: Path, origin: Origin, dataset: Dataset, learned: Learned) -> TrainedSet:
    """Write the model set with its card into ``folder``, replacing an unfinished one.

    What is calibrated and measured are the scores of the written files, made by the functions that
    a run uses.
    """
    shutil.rmtree(folder, ignore_errors=True)
    length = origin.chunk_length
    info = write_modelset(origin.base, folder, origin.name, length, learned.classifier)
    models = _classifier_of(folder, info)
    calibration = _calibrate(score_part(dataset.run, VALIDATION, models))
    test = score_part(dataset.run, TEST, models)
    levels = _levels(test, CallRule(calibration), learned.contigs)
    report = _report(origin, dataset, learned, levels, calibration)
    text = json.dumps(report.as_json(), indent=1) + "\n"
    for name, content in (("README.md", report.card()), ("training.json", text)):
        (folder / name).write_text(content, encoding="utf-8")
    if learned.contigs is not None:
        learned.contigs.model.save(folder / _CONTIG_MODEL.file)
    finished = replace(
        info,
        contig_model=None if learned.contigs is None else _CONTIG_MODEL,
        training_data=report.training_data,
        quality=report.quality,
        calibration=None if calibration is None else {str(length): calibration},
    )
    return TrainedSet(folder, write_info(folder, finished), report)


def _classifier_of(folder: Path, info: ModelSetInfo) -> ModelSet:
    source = ModelSource.of(str(folder), info, device="cpu")
    return load(replace(source, encoders=False))


def _calibrate(validation: HeldOut) -> Calibration | None:
    contigs, is_virus = validation.pieces()
    fewest = min(sum(is_virus), len(is_virus) - sum(is_virus))
    if fewest < calibrate.FEWEST_CONTIGS:
        log.warning(
            "%d validation contigs of one class are too few to calibrate with (%d are needed): the "
            "model set gives scores, no probabilities.",
            fewest,
            calibrate.FEWEST_CONTIGS,
        )
        return None
    return calibrate.fit(contigs, is_virus)


def _levels(test: HeldOut, rule: CallRule, contigs: LearnedContigs | None) -> dict[str, Level]:
    """What is measured on the test part; with a contig model records without it as well."""
    levels = {"frames": test.frames}
    if test.supported is not None:
        levels["frames_in_cds"] = test.frames.where(test.supported)
    levels |= {"chunks": test.chunks, "contigs": test.contigs(rule)}
    if contigs is not None:
        levels["contigs_by_mean"] = levels["contigs"]
        levels["contigs"] = test.contigs(replace(rule, contig_model=contigs.model))
    return levels


def _report(
    origin: Origin,
    dataset: Dataset,
    learned: Learned,
    levels: dict[str, Level],
    calibration: Calibration | None,
) -> ClassifierReport:
    base = read_info(origin.base)
    before = score_part(dataset.run, TEST, _classifier_of(origin.base, base))
    return ClassifierReport(
        name=origin.name,
        base=f"{base.name} {base.version}",
        base_checksum=base.checksum,
        chunk_length=origin.chunk_length,
        command=origin.command,
        files=dataset.records.files,
        left_out=dataset.records.left_out,
        groups=origin.groups,
        parts=_counts(dataset, learned, levels["frames"]),
        cds_only="frames_in_cds" in levels,
        recipe=origin.recipe,
        best=learned.fitted.best,
        history=learned.fitted.history,
        device=learned.fitted.device,
        threads=learned.fitted.threads,
        calibration=None if calibration is None else calibration.method,
        test={name: level_quality(level) for name, level in levels.items()},
        base_test_auroc=level_quality(before.chunks)["auroc"],
        contig_model=None if learned.contigs is None else learned.contigs.made_from,
    )


def _counts(dataset: Dataset, learned: Learned, test: Level) -> tuple[PartCounts, ...]:
    frames = (learned.training.is_virus, learned.validation.is_virus, test.is_virus)
    part_of, is_virus = dataset.split.part, dataset.records.is_virus
    return tuple(
        PartCounts(groups, _by_class(is_virus[part_of == part]), _by_class(frames[part]))
        for part, groups in zip(range(len(PARTS)), dataset.split.groups, strict=True)
    )


def _by_class(is_virus: NDArray[np.bool_]) -> tuple[int, int]:
    viral = int(is_virus.sum())
    return viral, len(is_virus) - viral
