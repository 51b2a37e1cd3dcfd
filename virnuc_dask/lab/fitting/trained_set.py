"""A trained classifier as a model set: written, calibrated on validation, measured once on test."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from virnuc_dask.lab.fitting import calibrate
from virnuc_dask.lab.fitting.fit_classifier import Fitted
from virnuc_dask.lab.fitting.frame_features import FrameSet, LabelledRun
from virnuc_dask.lab.fitting.groups import Split
from virnuc_dask.lab.fitting.held_out import HeldOut, score_part
from virnuc_dask.lab.fitting.job import Job
from virnuc_dask.lab.fitting.options import PARTS, TEST, VALIDATION, ClassifierRecipe
from virnuc_dask.lab.fitting.training_records import TrainingRecords
from virnuc_dask.lab.quality.assessment import counted_quality
from virnuc_dask.lab.quality.figures import Flags
from virnuc_dask.lab.quality.report import form, render
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
from virnuc_dask.modelsets.modelset import load
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.stages.calls import CallRule

log = logging.getLogger(__name__)

VERSION = "1"
_CLASSIFIER = "classifier.safetensors"
_CONTIG_MODEL = ContigModelSpec("contig_model.safetensors")
_QUALITY = ("auroc", "average_precision", "f1", "n_virus", "n_others")  # of the test's chunks
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
    """A new model set, and what ``training.json`` says of it."""

    folder: Path
    info: ModelSetInfo
    report: dict[str, Any]


def write_trained(folder: Path, job: Job, dataset: Dataset, learned: Learned) -> TrainedSet:
    """Write the model set with its card into ``folder``, replacing an unfinished one.

    What is calibrated and measured are the scores of the written files, made by the functions that
    a run uses.

    `ModelSetError` if a file of the model set to start from is missing or damaged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    info = _write_weights(folder, job, learned)
    models = load(replace(ModelSource.of(str(folder), info, device="cpu"), encoders=False))
    calibration = _calibrate(score_part(dataset.run, VALIDATION, models))
    rule = CallRule(calibration, contig_model=learned.contig_model)
    test = score_part(dataset.run, TEST, models)
    report = _report(job, dataset, learned) | {
        "calibration": None if calibration is None else calibration.method,
        "test": {
            "chunks": counted_quality(test.chunks()),
            "contigs": counted_quality(test.contigs(rule)),
        },
    }
    card = render("training.md", r=report)
    for name, content in (("README.md", card), ("training.json", json.dumps(report, indent=1))):
        (folder / name).write_text(content + "\n", encoding="utf-8")
    finished = replace(
        info,
        training_data=_training_data(report),
        quality={str(job.chunk_length): {n: report["test"]["chunks"][n] for n in _QUALITY}},
        calibration=None if calibration is None else {str(job.chunk_length): calibration},
    )
    return TrainedSet(folder, write_info(folder, finished), report)


def summary_lines(report: dict[str, Any]) -> Iterator[str]:
    """The test figures, a line each of chunks and records."""
    shown = {"auroc": "AUROC", "average_precision": "average precision", "f1": "F1"}
    for level, name in (("chunks", "chunks"), ("contigs", "records")):
        found = report["test"][level]
        figures = "  ".join(f"{text} {form(found[key], '.4f')}" for key, text in shown.items())
        counts = f"{found['n_virus']:,} virus, {found['n_others']:,} others"
        yield f"test {name:<8} {figures}  ({counts})"


def _training_data(report: dict[str, Any]) -> str:
    """The files in one line, for ``modelset.json``."""
    virus, others = (
        ", ".join(f"{f['name']} (SHA-256 {f['sha256']})" for f in report["files"] if of(f))
        for of in (lambda f: f["is_virus"], lambda f: not f["is_virus"])
    )
    return f"virus: {virus}; others: {others}; seed {report['recipe']['seed']}"


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


def _report(job: Job, dataset: Dataset, learned: Learned) -> dict[str, Any]:
    base, options, fitted, records = job.info, job.options, learned.fitted, dataset.records
    return {
        "name": job.name,
        "base": f"{base.name} {base.version}",  # the model set whose encoders are used
        "base_checksum": base.checksum,
        "chunk_length": job.chunk_length,
        "command": shlex.join(job.command),
        "files": [asdict(file) for file in records.files],
        "left_out": records.left_out,
        "groups": options.groups.name if options.groups else None,
        "parts": _counts(dataset, learned),
        "recipe": {f.name: getattr(options, f.name) for f in fields(ClassifierRecipe)},
        "best": asdict(fitted.best),
        "history": [asdict(epoch) for epoch in fitted.history],
        "device": fitted.device,  # that learned
        "threads": fitted.threads,
        "contig_model": learned.contigs,  # what it was learned from; None without
    }


def _counts(dataset: Dataset, learned: Learned) -> dict[str, dict[str, Sequence[int]]]:
    """How much each part of the data holds; pairs are (virus, others)."""
    part_of, is_virus = dataset.split.part, dataset.records.is_virus
    counts: dict[str, dict[str, Sequence[int]]] = {
        name: {"groups": groups, "records": _by_class(is_virus[part_of == part])}
        for part, (name, groups) in enumerate(zip(PARTS, dataset.split.groups, strict=True))
    }
    for name, frames in (("training", learned.training), ("validation", learned.validation)):
        counts[name]["frames"] = _by_class(frames.is_virus)
    return counts


def _by_class(is_virus: Flags) -> tuple[int, int]:
    viral = int(is_virus.sum())
    return viral, len(is_virus) - viral
