"""``evaluate``, ``train`` and ``pretrain``; each imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from virnuc_dask.cli.options import (
    InputPath,
    ManyFiles,
    computing_options,
    console,
    folder_option,
    labelled_options,
    loudness_options,
    model_option,
    precision_option,
    prepare,
    restart_options,
)
from virnuc_dask.cli.terminal import say
from virnuc_dask.cluster.log_setup import show_log

_TRAINING = (
    *("name", "split", "groups", "keep_work"),
    *("hidden", "epochs", "patience", "seed"),
)


@click.command("evaluate", cls=ManyFiles)
@click.argument("sets", nargs=-1, metavar="SET...")
@labelled_options
@folder_option("Folder to make.")
@click.option(
    "--length",
    "lengths",
    type=int,
    multiple=True,
    help="Chunk length in nt, of sets that read frames; several are compared. Default: each set's "
    "own.",
)
@precision_option("Of the encoders.")
@restart_options(
    resume="Continue an earlier evaluation in the folder.",
    force="Start anew in a folder that holds an evaluation.",
)
@computing_options
def evaluate_command(
    sets: tuple[str, ...],
    virus: tuple[str, ...],
    other: tuple[str, ...],
    out: Path,
    lengths: tuple[int, ...],
    **options: Any,
) -> None:
    """Measure how well model sets (SET: a name, or a folder) tell viruses from all else.

    --virus and --other take FASTA or FASTQ files, plain or compressed; each file is a group
    in the report.
    """
    if not sets:
        raise click.UsageError(
            "no model set: name a folder with a modelset.json. Whatever else follows "
            "--virus and --other counts as a file of theirs."
        )
    from virnuc_dask.lab.evaluate import evaluate, summary_lines

    content = evaluate(sets, virus, other, out, lengths=lengths, **prepare(options))
    for warning in content["warnings"]:
        say(f"warning: {warning}", err=True)
    if not options["quiet"]:
        say("\n".join([*summary_lines(content), f"report  {out / 'evaluation.html'}"]))


@click.command("train", cls=ManyFiles)
@labelled_options
@folder_option("Folder to make.")
@click.option("--name", help="Of the new model set; default: the folder's name.")
@click.option("--length", type=int, help="Chunk length in nt; default: the model set's own.")
@precision_option("Of the encoders.")
@click.option(
    "--groups",
    type=InputPath(),
    help="Table of record id, tab, group: records that must stay together. Default: records that "
    "share a 31-mer.",
)
@click.option("--split", default="80/10/10", help="Training/validation/test, percent; 80/10/10.")
@click.option("--hidden", type=int, help="Width of the hidden layer; default 512.")
@click.option("--epochs", type=int, help="At most so many; default 100.")
@click.option("--patience", type=int, help="Epochs without a better validation; default 8.")
@click.option("--seed", type=int, help="Of the split and the training; default 1.")
@restart_options(
    resume="Continue an earlier training.",
    force="Start anew; replaces the model set in the folder.",
)
@click.option("--keep-work", is_flag=True, help="Keep the feature tables, in OUT.work.")
@model_option
@computing_options
def train_command(
    virus: tuple[str, ...], other: tuple[str, ...], out: Path, **options: Any
) -> None:
    """Train a classifier on the encoders of a model set that reads frames, from labelled records.

    --virus and --other take FASTA, FASTQ or GenBank files, plain or compressed.
    """
    from virnuc_dask.lab.fitting.options import TrainingOptions
    from virnuc_dask.lab.fitting.trained_set import summary_lines
    from virnuc_dask.lab.train import train

    given = {name: options.pop(name) for name in _TRAINING}
    how = TrainingOptions(**{name: value for name, value in given.items() if value is not None})
    done = train(virus, other, out, options=how, **prepare(options))
    if not options["quiet"]:
        say("\n".join([*summary_lines(done.report), f"model set  {done.folder}/"]))


@click.command("pretrain")
@click.argument("config", type=InputPath())
@click.option("--force", is_flag=True, help="Replace the model set that an earlier training made.")
@loudness_options
def pretrain_command(config: Path, force: bool, quiet: bool, verbose: bool) -> None:
    """Make a model set that reads genes as CONFIG (YAML) says; one that was stopped goes on."""
    from virnuc_dask.lab.pretrain import train
    from virnuc_dask.lab.recipe import read_recipe

    show_log(console, quiet=quiet, verbose=verbose)
    folder = train(read_recipe(config), force=force)
    if not quiet:
        say(f"model set  {folder}/")
