"""``run`` and ``predict``, and the summary that they print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from virnuc_dask.cli.options import (
    InputText,
    MateText,
    OutputPath,
    computing_options,
    fdr_option,
    folder_option,
    formats_option,
    json_option,
    model_option,
    precision_option,
    prepare,
    restart_options,
    shown_options,
)
from virnuc_dask.cli.terminal import say
from virnuc_dask.cluster.job_scripts import job_script
from virnuc_dask.cluster.journal import logger
from virnuc_dask.config import GENE_CALLERS
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.outputs.contigs import Listed, most_viral
from virnuc_dask.outputs.report.page import REPORT
from virnuc_dask.planning import dry_run
from virnuc_dask.run import Run, predict, run
from virnuc_dask.stages.calls import OTHERS, UNSCORED, UNSURE, VIRUS, VIRUS_REGION
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.inputs import given_inputs
from virnuc_dask.tables.plan import read_run_json

_SHOWN = (  # files that are named at the end
    *("contigs.tsv", "pairs.tsv", "virus.fasta", "virus_regions.tsv", "genes.parquet"),
    *("chunks.parquet", "prediction_results.txt", REPORT),
)
_OTHERWISE = (VIRUS_REGION, OTHERS, UNSURE, UNSCORED)
_WIDEST_ID = 60  # letters of a record's id in the summary


@click.command("run")
@click.argument("inputs", nargs=-1, type=InputText())
@folder_option("Run folder.")
@click.option(
    "--reads",
    nargs=2,
    multiple=True,
    type=MateText(),
    metavar="R1 R2",
    help="Two files of mates, in the same order; can be repeated. A pair gets one call.",
)
@click.option(
    "--paired/--no-paired",
    default=None,
    help="INPUTS hold mates next to each other, named alike (/1 /2, or interleaved). Default: in "
    "BAM and CRAM, as flags say.",
)
@click.option("--length", type=int, help="Chunk length in nt; default: the model set's own.")
@precision_option("Of the encoders; auto: the fastest for this device (default).")
@click.option(
    "--compile/--no-compile",
    default=None,
    help="GPU: compile the encoders; pays in runs of hours. Default no.",
)
@click.option(
    "--persistent-models/--no-persistent-models",
    default=None,
    help="Load the model set once per worker (default), or for every partition.",
)
@click.option(
    "--features/--no-features",
    default=None,
    help="Keep the feature tables (default), or only the predictions.",
)
@click.option(
    "--report/--no-report",
    default=None,
    help="Write report.html, a page of the finished run (default).",
)
@click.option("--prefix", help="Of the result files' names: NAME.contigs.tsv and so on.")
@click.option(
    "--features-dtype",
    type=click.Choice(["float32", "float16"]),
    help="How embeddings are stored; float16 halves the tables. Default float32.",
)
@click.option(
    "--gene-caller",
    type=click.Choice(GENE_CALLERS),
    help="Of a model set that reads genes; default: the model set's own.",
)
@restart_options(
    resume="Continue an earlier run in the run folder.",
    force="Start anew in a folder that holds a run.",
)
@click.option(
    "--performance-report",
    type=OutputPath(),
    help="Page (.html) for Dask's report on its workers: tasks over time, profiles.",
)
@click.option("--dry-run", "dry", is_flag=True, help="Check the input and count; write nothing.")
@json_option
@formats_option
@shown_options
@fdr_option
@model_option
@computing_options
def run_command(
    inputs: tuple[str, ...],
    reads: tuple[tuple[str, str], ...],
    paired: bool | None,
    out: Path,
    dry: bool,
    as_json: bool,
    performance_report: Path | None,
    top: int | None,
    min_length: int | None,
    **options: Any,
) -> None:
    """Find the viral records of INPUTS.

    FASTA or FASTQ files, plain or compressed; BAM, CRAM; folders, quoted patterns, @LIST (a path a
    line, then perhaps a tab and the sample's name); - is stdin.
    """
    how = prepare(options)
    if dry:
        settings = how["settings"]
        given = given_inputs(inputs, reads, paired)
        for message in given.warnings():
            logger.warning(message)
        counts = dry_run(given.sources, settings)
        if as_json:
            say(json.dumps(asdict(counts)))
            return
        pairs = f" ({counts.pairs} pairs)" if counts.pairs else ""
        say(
            f"{counts.records} records{pairs}, {counts.length_nt} nt, {counts.chunks} "
            f"{read_info(find(settings.model)).units.parts}; "
            f"model set {settings.model}. Nothing was written."
        )
        if settings.cluster.batch_system is not None:
            say(f"Each job:\n{job_script(settings.cluster, RunFolder(out).jobs)}")
        return
    done = run(
        inputs,
        out,
        performance_report=performance_report,
        reads=reads,
        paired=paired,
        **how,
    )
    _tell(done, top, min_length, quiet=options["quiet"], as_json=as_json)


@click.command("predict")
@click.argument("out", type=OutputPath())
@json_option
@formats_option
@shown_options
@fdr_option
@model_option
@computing_options
def predict_command(
    out: Path, as_json: bool, top: int | None, min_length: int | None, **options: Any
) -> None:
    """Score the stored feature tables of the run in OUT again."""
    done = predict(out, options["model"], **prepare(options))
    _tell(done, top, min_length, quiet=options["quiet"], as_json=as_json)


def _tell(
    done: Run, top: int | None, min_length: int | None, *, quiet: bool, as_json: bool
) -> None:
    """Print the summary; `LostRowsError` if something failed."""
    if as_json:
        say(json.dumps(_run_object(done), indent=2))
    elif not quiet:
        say(summary_text(done, top, min_length))
    done.require_complete()


def _run_object(done: Run) -> dict[str, Any]:
    """What ``--json`` prints: all of ``run.json`` but the plan, and where the files lie."""
    folder = RunFolder.of_run(done.folder)
    content = read_run_json(folder)
    del content["plan"], content["outputs"]
    files = {name: str(path) for name, path in folder.outputs().items()}
    return {"folder": str(folder.path), "files": files, **content}


def summary_text(done: Run, top: int | None = None, min_length: int | None = None) -> str:
    """What a run found, for people; of the most viral so many, of at least so many nt."""
    found, folder = done.summary, RunFolder.of_run(done.folder)
    listed = Listed(found["highest"])
    if top is not None or min_length:
        listed = most_viral(folder.output("contigs.parquet"), top, min_length or 0)
    width = max([6, *(len(contig["call"]) for contig in listed.records)])
    lines = [("records", f"{found['records']:,}"), *_parts(found)]
    lines.append(("virus contigs", _calls(found["contigs"])))
    if pairs := found.get("pairs"):
        lines.append(("virus pairs", _calls(pairs)))
    if found.get("fdr") is not None:
        share = found["prevalence"]
        none = "nothing was scored"
        told = none if share is None else f"estimated share of viruses {share:.1%}"
        lines.append(("called by", f"{found['called_by']}  ({told})"))
    for place, contig in enumerate(listed.records):
        shown = f"{contig['call']:<{width}}  {contig['record_id'][:_WIDEST_ID]}"
        lines.append(("" if place else "most viral", f"{_scores(contig)}  {shown}"))
    if min_length:
        viral = f"{listed.shorter_viral:,} {VIRUS} or {VIRUS_REGION}"
        shorter = f"{listed.shorter:,} below {min_length:,} nt, of them {viral}"
        lines.append(("not listed", f"{shorter}; the files hold all"))
    files = [path.name for name in _SHOWN if (path := folder.output(name)).exists()]
    lines.append(("seconds", f"{found['elapsed_s']:,.1f}"))
    lines += [("outputs", f"{done.folder}/"), ("", "  ".join(files))]
    return "\n".join(f"{name:<16}{value}" for name, value in lines)


def _parts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was read: frames of chunks, or genes of records."""
    if "genes" not in found:
        scored = f"{found['chunks']:,} ({found['chunks_scored']:,} with an open frame)"
        return [("chunks", scored), ("frames", f"{found['frames']:,}")]
    lines = [("genes", f"{found['genes']:,} ({found['genes_virus']:,} viral)")]
    if frames := found["frames"] - found["genes"]:
        lines.append(("frames", f"{frames:,} (where there is no gene)"))
    return lines


def _calls(counts: Mapping[str, int]) -> str:
    """How many are virus, and how many are called otherwise."""
    there = {call: counts[call] for call in _OTHERWISE if call in counts}
    others = (f"{call} {count:,}" for call, count in there.items() if count or call != VIRUS_REGION)
    return f"{counts[VIRUS]:,}  ({', '.join(others)})"


def _scores(contig: Mapping[str, Any]) -> str:
    known = contig.get("probability") is not None
    chance = f"  probability {contig['probability']:.3f}" if known else ""
    return f"{contig['score']:.3f}{chance}"
