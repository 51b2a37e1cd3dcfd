"""``bench``; imports what it needs when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from virnuc_dask.cli.options import (
    ManyValues,
    OutputPath,
    console,
    device_option,
    loudness_options,
    model_option,
)
from virnuc_dask.cli.terminal import say
from virnuc_dask.cluster.log_setup import show_log
from virnuc_dask.config import load_settings
from virnuc_dask.errors import OutputExistsError
from virnuc_dask.tables.parquet import write_text
from virnuc_dask.tables.paths import writing

if TYPE_CHECKING:
    from virnuc_dask.lab.bench import BenchReport


class _ManySizes(ManyValues):
    """``--esm2`` takes several sizes."""

    several = ("--esm2",)


@click.command("bench", cls=_ManySizes)
@click.option(
    "--esm2",
    multiple=True,
    type=click.Choice(["8M", "35M", "150M", "650M", "3B"]),
    help="Sizes of ESM-2, with random weights, to measure beside the model set.",
)
@click.option("--quick", is_flag=True, help="Shorter measurements, fewer splits of the cores.")
@click.option("--json", "file", type=OutputPath(), help="File for all figures.")
@device_option
@click.option("--workers", type=int, help="Workers of the runs; default: several are tried.")
@click.option("--threads", type=int, help="Threads of each worker; default: several are tried.")
@model_option
@loudness_options
def bench_command(esm2: tuple[str, ...], quick: bool, file: Path | None, **options: Any) -> None:
    """Measure how fast this machine finds viruses, and print settings for a --config file.

    Takes a few minutes: matrix products, encoders, tokens a batch, then whole runs over a drawn
    metagenome with the cores split among more or fewer workers.
    """
    from virnuc_dask.lab.bench import BenchOptions, bench

    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    # The lines of the runs would drown the figures.
    show_log(console, quiet=not verbose, verbose=verbose)
    flags = {"model": options.pop("model")}
    flags |= {f"cluster.{name}": value for name, value in options.items()}

    if file is not None:
        _refuse_others(file)
    settings, how = load_settings(flags=flags), BenchOptions(esm2, quick)
    report = bench(settings, how, lambda line: None if quiet else say(line, err=True))
    if file is not None:
        _write(file, json.dumps(report.as_json()) + "\n")
    say(report_text(report))


def _refuse_others(file: Path) -> None:
    """Check, before minutes of measuring, that the file can be written and is a report, or new."""
    with writing(file):
        file.parent.stat()
        if file.is_dir() or (file.is_file() and not _is_report(file)):
            raise OutputExistsError(f"{file}: is no report of bench; choose another name.")


def _is_report(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["benchmark"] == "bench")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _write(file: Path, text: str) -> None:
    with writing(file):
        if file.exists() and not file.is_file():  # a pipe, a terminal
            file.write_text(text, encoding="utf-8")
        else:
            write_text(file.resolve(), text)


def report_text(report: BenchReport) -> str:
    """What was found, as YAML with comments: it can be kept as it is as a ``--config`` file."""
    from virnuc_dask.lab.bench import rate_text

    best, encoders = report.best, report.encoders
    lines = [
        f"model set {report.model} on {encoders.device}: {rate_text(best)} "
        f"with {best['workers']} worker(s)",
        f"memory at most {best['peak_ram_bytes'] / 1e9:.1f} GB, all workers together",
    ]
    if best["peak_gpu_bytes"]:
        lines.append(f"GPU memory at most {best['peak_gpu_bytes'] / 1e9:.1f} GB")
    lines += [trial.line() for trial in encoders.trials]
    for trial in encoders.others:
        tokens = trial.max_tokens or "the automatic number of"
        lines.append(f"{trial.label}: best in {trial.precision} with {tokens} tokens a batch")
    return "\n".join([*(f"# {line}" for line in lines), report.recommendation.rstrip()])
