"""``evaluate``: model sets over labelled files, by the same runs that users make."""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from virnuc_dask.cluster.connect import reached
from virnuc_dask.cluster.hardware import hardware_of
from virnuc_dask.config import Settings
from virnuc_dask.errors import OutputExistsError, UsageError
from virnuc_dask.lab.installed import require
from virnuc_dask.lab.labelled import LabelledFiles, read_labelled
from virnuc_dask.lab.quality.assessment import assess, side_by_side
from virnuc_dask.lab.quality.figures import FIGURES, RESAMPLES, SEED
from virnuc_dask.lab.quality.scored import Scored, read_scored
from virnuc_dask.modelsets.manifest import ModelSetInfo, find, read_info
from virnuc_dask.planning import chunk_length, decided
from virnuc_dask.run import Run, run
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.ownership import made, refuse_loss, refuse_others, sizes
from virnuc_dask.tables.parquet import write_text, written_whole
from virnuc_dask.tables.paths import writing

_PACKAGES = ("numpy", "pyarrow", "torch", "scikit-learn", "matplotlib")
_RUNS, _PLOTS, _JSON, _HTML = "runs", "plots", "evaluation.json", "evaluation.html"


@dataclass(frozen=True, slots=True)
class _Trial:
    """One model set at one chunk length."""

    label: str
    info: ModelSetInfo
    settings: Settings
    folder: Path  # of its run


def evaluate(
    sets: Sequence[str | Path],
    virus: Sequence[str | Path],
    other: Sequence[str | Path],
    out: Path,
    settings: Settings | None = None,
    lengths: Sequence[int] = (),
    *,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
    keep: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Measure how well model sets tell the records of some files from those of others.

    Each set makes a run over all files, in ``out/runs``; the figures are read from its tables. They
    are written to ``evaluation.json``, ``evaluation.html`` and ``plots/`` and returned as they
    stand in the JSON file. What is measured are records: sets of either reading have them.

    `UsageError` if scikit-learn or matplotlib is missing, a set or file is given twice, a set was
    not made for a chunk length, or lengths are given and all sets read genes. `BadInputError` if a
    file cannot be read or holds no records. `OutputExistsError` if ``out`` is not empty and neither
    ``resume`` nor ``force`` is set, or a file would be lost that no evaluation made, or that is
    read.

    Parameters
    ----------
    sets
        Names or folders of model sets; the others are compared with the first.
    virus, other
        FASTA or FASTQ files of viral and of other records. Each file is one group.
    settings
        Where and how to compute; ``model``, ``length`` and ``features`` are not looked at, and
        ``gene_caller`` only for sets that read genes.
    lengths
        Chunk lengths, each for one run of a set that reads frames; default: the first of each set.
    keep
        Files that must not be replaced, besides model sets and files of records.
    """
    require("evaluate", "scikit-learn", "matplotlib")
    trials = list(_trials([str(name) for name in sets], lengths, out, settings or Settings()))
    labelled = read_labelled([str(file) for file in virus], [str(file) for file in other])
    with writing(out):
        read = (*labelled.files, *(find(str(name)) for name in sets), *keep)
        _prepare(out, read, resume=resume, force=force)
    way: dict[str, Any] = {"resume": resume, "force": force, "console": console}
    content = _content(labelled, list(_evaluations(trials, labelled, out, way)))
    _forget_earlier(out, [trial.folder for trial in trials] if force else None)
    _write(content, out)
    return content


def _evaluations(
    trials: Sequence[_Trial], labelled: LabelledFiles, out: Path, way: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Run and measure each; then compare them on the records that all of them score."""
    measured: list[dict[str, Any]] = []
    contigs: list[Scored] = []
    for trial in trials:
        done = run(labelled.files, trial.folder, settings=trial.settings, **way)
        done.require_complete()
        scored = read_scored(trial.folder, labelled)
        contigs.append(scored.contigs)
        measured.append(_described(trial, done, out) | assess(scored))
    compared = side_by_side(contigs) if len(contigs) > 1 else [None]
    for evaluation, figures in zip(measured, compared, strict=True):
        yield evaluation | {"shared_contigs": figures}


def _trials(
    sets: Sequence[str], lengths: Sequence[int], out: Path, settings: Settings
) -> Iterator[_Trial]:
    """Every set at every length; all of them are checked before the first one computes."""
    if len({find(name) for name in sets}) < len(sets) or not sets:
        raise UsageError("name one model set, or several different ones.")
    found = {name: read_info(find(name)) for name in sets}
    if lengths and all(info.reads_genes for info in found.values()):
        raise UsageError("--length is for sets that read frames; none of these does. Leave it out.")
    names = Counter(info.name for info in found.values())
    with reached(settings.cluster) as client:
        hardware = hardware_of(settings.cluster, client)
    for place, (source, info) in enumerate(found.items(), start=1):
        name = info.name if names[info.name] == 1 else f"{info.name}-{place}"
        wanted = () if info.reads_genes else dict.fromkeys(lengths)
        for length in wanted or (info.chunk_lengths[0],):
            own = replace(settings, model=source, length=length, features=False)
            if not info.reads_genes:
                own = replace(own, gene_caller=None)
            chunk_length(own, info)
            own = decided(own, info, hardware)
            kind = ("genes", "genes") if info.reads_genes else (f"{length} nt", str(length))
            folder = out / _RUNS / f"{re.sub(r'[^0-9A-Za-z._-]', '_', name)}-{kind[1]}"
            yield _Trial(f"{name} ({kind[0]})", info, own, folder)


def _prepare(out: Path, read: Sequence[str | Path], *, resume: bool, force: bool) -> None:
    """Make the folder; one with anything in it is used only if it is an evaluation's."""
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out}: is a file; choose another name.")
    out.mkdir(parents=True, exist_ok=True)
    if strangers := {entry.name for entry in out.iterdir()} - {_RUNS, _PLOTS, _JSON, _HTML}:
        raise OutputExistsError(
            f"{out}: holds {min(strangers)}, which is no part of an evaluation; choose another "
            "folder."
        )
    # Whether an evaluation of ours lies here, or the runs of one that did not end.
    earlier, runs = _earlier(out), [folder for folder in _run_folders(out) if folder.is_run]
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    if (files and not (earlier or runs)) or (not earlier and (out / _JSON).exists()):
        raise OutputExistsError(f"{out}: not empty, and no evaluation; choose another folder.")
    if (earlier or runs) and not (resume or force):
        raise OutputExistsError(
            f"{out}: there is an evaluation here already. Continue it with --resume, start anew "
            "with --force, or choose another folder."
        )
    refuse_others(out, _output_names(), earlier.get("outputs"), "the evaluation")
    refuse_loss((out / _JSON, *_made(out)), read)
    for folder in runs:
        folder.refuse_loss(read)


def _earlier(out: Path) -> Mapping[str, Any]:
    """The ``evaluation.json`` here; nothing if there is none of ours."""
    try:
        content = json.loads((out / _JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    ours = isinstance(content, dict) and {"virnuc_dask", "evaluations"} <= content.keys()
    return content if ours and isinstance(content.get("outputs", {}), dict) else {}


def _run_folders(out: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((out / _RUNS).glob("*/"))]


def _output_names() -> list[str]:
    from virnuc_dask.lab.quality.plots import plot_names

    return [_HTML, *(f"{_PLOTS}/{name}.{kind}" for name in plot_names() for kind in ("png", "svg"))]


def _made(out: Path) -> list[Path]:
    """Page and plots of an earlier evaluation."""
    return list(made(out, _output_names(), _earlier(out).get("outputs")))


def _forget_earlier(out: Path, wanted: Sequence[Path] | None) -> None:
    """Remove page and plots of an earlier evaluation, and its runs, if only some are ``wanted``.

    All figures are known by now: an earlier evaluation is whole until the new one is written.
    """
    for path in (*_made(out), out / _JSON):
        path.unlink(missing_ok=True)
    for folder in _run_folders(out):
        if wanted is not None and folder.path not in wanted:
            folder.remove()


def _described(trial: _Trial, done: Run, out: Path) -> dict[str, Any]:
    info = trial.info
    return {
        "label": trial.label,
        "modelset": {
            "name": info.name,
            "version": info.version,
            "checksum": info.checksum,
            "files": dict(info.files),
        },
        "reading": info.reading,
        "gene_caller": trial.settings.gene_caller,
        "chunk_length": trial.settings.length,
        "precision": trial.settings.precision,
        "called_by": done.summary["called_by"],
        "run": str(done.folder.relative_to(out)),
    }


def _content(labelled: LabelledFiles, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    warnings = []
    if len(shared := labelled.in_both):
        group = labelled.group_of[shared[0]]
        number = 1 + int((labelled.group_of[: shared[0]] == group).sum())
        warnings.append(
            f"{len(shared)} of the other records have the same DNA as a viral one (the first is "
            f"record {number} of {labelled.groups[group].file}): they cannot be told apart, and "
            "lower every figure."
        )
    return {
        "virnuc_dask": version("virnuc-dask"),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "seed": SEED,
        "resamples": RESAMPLES,
        "groups": [asdict(group) for group in labelled.groups],
        "warnings": warnings,
        "evaluations": evaluations,
    }


def _write(content: dict[str, Any], out: Path) -> None:
    """Write plots and page first: the JSON file is there when all is done."""
    from virnuc_dask.lab.quality.plots import draw
    from virnuc_dask.lab.quality.report import page

    plots = list(draw(content))
    (out / _PLOTS).mkdir(exist_ok=True)
    for plot in plots:
        with written_whole(out / _PLOTS / f"{plot.name}.png") as stream:
            stream.write(plot.png)
        write_text(out / _PLOTS / f"{plot.name}.svg", plot.svg)
    write_text(out / _HTML, page(content, plots))
    content["outputs"] = sizes(out, _output_names())
    write_text(out / _JSON, json.dumps(content, indent=1, allow_nan=False) + "\n")


def summary_lines(content: dict[str, Any]) -> Iterator[str]:
    """The most wanted figures as a table for a terminal, of all records and of the shared ones."""
    shown = [figure for figure in FIGURES if figure.short]
    width = max(len(e["label"]) for e in content["evaluations"])
    yield f"{'':{width}}  records  {''.join(f'{figure.short:>10}' for figure in shown)}"
    for which, key in (("all", "contigs"), ("shared", "shared_contigs")):
        for e in content["evaluations"]:
            if found := e[key]:
                values = (found[figure.key] for figure in shown)
                cells = "".join(f"{'-' if v is None else f'{v:.4f}':>10}" for v in values)
                yield f"{e['label']:{width}}  {which:<9}{cells}"
