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
    OutputPath,
    bar,
    computing_options,
    fdr_option,
    folder_option,
    formats_option,
    json_option,
    model_option,
    precision_option,
    prepare,
    read_besides,
    restart_options,
    shown_options,
    take_restart,
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
from virnuc_dask.stages.calls import VIRUS, VIRUS_REGION
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.inputs import given_inputs
from virnuc_dask.tables.plan import read_run_json

_SHOWN = (  # files that are named at the end
    *("contigs.tsv", "pairs.tsv", "virus.fasta", "virus_regions.tsv", "genes.parquet"),
    *("chunks.parquet", "prediction_results.txt", REPORT),
)
_WIDEST_ID = 60  # letters of a record's id in the summary


@click.command("run")
@click.argument("inputs", nargs=-1, type=InputText())
@folder_option("Run folder.")
@click.option(
    "--reads",
    nargs=2,
    multiple=True,
    type=InputText(),
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
    resume, force = take_restart(options)
    settings = prepare(options)
    if dry:
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
    quiet = options["quiet"]
    done = run(
        inputs,
        out,
        settings=settings,
        console=bar(quiet=quiet),
        resume=resume,
        force=force,
        keep=read_besides(options),
        performance_report=performance_report,
        reads=reads,
        paired=paired,
    )
    _report(done, top, min_length, quiet=quiet, as_json=as_json)


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
    settings = prepare(options)
    quiet = options["quiet"]
    done = predict(
        out,
        options["model"],
        settings=settings,
        console=bar(quiet=quiet),
        keep=read_besides(options),
    )
    _report(done, top, min_length, quiet=quiet, as_json=as_json)


def _report(
    done: Run, top: int | None, min_length: int | None, *, quiet: bool, as_json: bool
) -> None:
    """Print the summary; `LostRowsError` if something failed."""
    if as_json:
        say(json.dumps(run_object(done), indent=2))
    elif not quiet:
        say(summary_text(done, top, min_length))
    done.require_complete()


def run_object(done: Run) -> dict[str, Any]:
    """What ``--json`` prints: all of ``run.json`` but the plan, and where the files lie."""
    folder = RunFolder.of_run(done.folder)
    content = read_run_json(folder)
    del content["plan"], content["outputs"]
    files = {name: str(path) for name, path in folder.outputs().items()}
    return {"folder": str(folder.path), "files": files, **content}


def summary_text(done: Run, top: int | None = None, min_length: int | None = None) -> str:
    """What a run found, for people; of the most viral so many, of at least so many nt."""
    found, contigs = done.summary, done.summary["contigs"]
    folder = RunFolder.of_run(done.folder)
    shown = [path.name for name in _SHOWN if (path := folder.output(name)).exists()]
    listed = Listed(found["highest"])
    if top is not None or min_length:
        listed = most_viral(folder.output("contigs.parquet"), top, min_length or 0)
    width = max([6, *(len(contig["call"]) for contig in listed.records)])
    return "\n".join(
        [
            f"records         {found['records']:,}",
            *_chunk_lines(found),
            f"virus contigs   {contigs['virus']:,}  ("
            + (f"{VIRUS_REGION} {held:,}, " if (held := contigs.get(VIRUS_REGION)) else "")
            + f"others {contigs['others']:,}, "
            + (f"unsure {contigs['unsure']:,}, " if "unsure" in contigs else "")
            + f"unscored {contigs['unscored']:,})",
            *_pair_line(found),
            *_fdr_line(found),
            *(
                f"{'' if place else 'most viral':<16}{_scores(contig)}  "
                f"{contig['call']:<{width}}  {contig['record_id'][:_WIDEST_ID]}"
                for place, contig in enumerate(listed.records)
            ),
            *_hidden_line(listed, min_length),
            f"seconds         {found['elapsed_s']:,.1f}",
            f"outputs         {done.folder}/",
            f"{'':<16}{'  '.join(shown)}",
        ]
    )


def _chunk_lines(found: Mapping[str, Any]) -> list[str]:
    """What was read: frames of chunks, or genes of records."""
    if "genes" in found:
        lines = [f"genes           {found['genes']:,} ({found['genes_virus']:,} viral)"]
        if frames := found["frames"] - found["genes"]:
            lines.append(f"frames          {frames:,} (where there is no gene)")
        return lines
    return [
        f"chunks          {found['chunks']:,} ({found['chunks_scored']:,} with an open frame)",
        f"frames          {found['frames']:,}",
    ]


def _pair_line(found: Mapping[str, Any]) -> list[str]:
    """What pairs of reads are called, of a run that has any."""
    if not (pairs := found.get("pairs")):
        return []
    others = ", ".join(f"{call} {count:,}" for call, count in pairs.items() if call != "virus")
    return [f"virus pairs     {pairs['virus']:,}  ({others})"]


def _fdr_line(found: Mapping[str, Any]) -> list[str]:
    """How records were called where a false discovery rate was asked for."""
    if found.get("fdr") is None:
        return []
    share = found["prevalence"]
    estimated = "nothing was scored" if share is None else f"estimated share of viruses {share:.1%}"
    return [f"called by       {found['called_by']}  ({estimated})"]


def _hidden_line(listed: Listed, min_length: int | None) -> list[str]:
    """How many records the list leaves out for their length, and how many of them matter."""
    if not min_length:
        return []
    shorter = f"{listed.shorter:,} below {min_length:,} nt"
    viral = f"{listed.shorter_viral:,} {VIRUS} or {VIRUS_REGION}"
    return [f"not listed      {shorter}, of them {viral}; the files hold all"]


def _scores(contig: Mapping[str, Any]) -> str:
    known = contig.get("probability") is not None
    chance = f"  probability {contig['probability']:.3f}" if known else ""
    return f"{contig['score']:.3f}{chance}"
