"""The command line: parse, one call, print, exit code."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click
from rich.console import Console

import virnuc_dask
from virnuc_dask import errors
from virnuc_dask.cluster.monitor import show_log
from virnuc_dask.config import Settings, load_settings
from virnuc_dask.modelsets import registry
from virnuc_dask.run import Run, dry_run, predict, run

P = ParamSpec("P")

FAILED = 5
_EXIT_CODES = (
    (errors.UsageError, 2),
    (errors.BadInputError, 3),
    (errors.BadTableError, 3),
    (errors.ModelSetError, 4),
    (errors.LostRowsError, FAILED),
    (errors.NoClusterError, 6),
)
_INTERRUPTED, _TERMINATED = 130, 143
_WIDEST_ID = 60  # letters of a record's id in the summary

console = Console(stderr=True)


def main() -> NoReturn:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        cli(standalone_mode=False, prog_name="virnuc-dask")
    except errors.VirnucError as error:
        _fail(str(error), next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; continue with --resume.", _INTERRUPTED)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(code)


def _settings_options(command: Callable[P, None]) -> Callable[P, None]:
    """The options of every command that computes with one model set."""
    model = click.option("--model", help="Model set: mini (embedded), or a folder.")
    return model(_computing_options(command))


def _computing_options(command: Callable[P, None]) -> Callable[P, None]:
    """The options of every command that computes."""
    options = [
        click.option("--config", type=click.Path(path_type=Path), help="A preset (YAML)."),
        click.option(
            "--cluster",
            "cluster_kind",
            type=click.Choice(["auto", "none", "cpu", "cuda"]),
            help="Where to compute; auto: CUDA workers when there is a GPU, else CPU workers.",
        ),
        click.option("--scheduler", help="Address of a Dask scheduler that is running."),
        click.option("--scheduler-file", help="Scheduler file of a cluster that is running."),
        click.option("--workers", type=int, help="Workers to start."),
        click.option("--threads", type=int, help="Threads of each worker."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            help="What workers compute on; auto: a GPU where there is one.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only."),
        click.option("-v", "--verbose", is_flag=True, help="Every event, debug messages too."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


_fdr_option = click.option(
    "--fdr", type=float, help="Call by q-value, so that at most this share of the calls is false."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(virnuc_dask.__version__, prog_name="virnuc_dask")
def cli() -> None:
    """Find viral sequences in metagenomes with a DNA and a protein language model."""


@cli.command("run")
@click.argument("inputs", nargs=-1, required=True)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--length", type=int, help="Chunk length in nt; default: the model set's own.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), help="Of the encoders; default fp32."
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
@click.option("--resume", is_flag=True, help="Continue an earlier run in the run folder.")
@click.option("--force", is_flag=True, help="Start anew in a folder that holds a run.")
@click.option("--dry-run", "dry", is_flag=True, help="Check the input and count; write nothing.")
@_fdr_option
@_settings_options
def run_command(
    inputs: tuple[str, ...], out: Path, resume: bool, force: bool, dry: bool, **options: Any
) -> None:
    """Find the viral records of INPUTS (FASTA or FASTQ, plain or compressed; - is stdin)."""
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other.")
    settings = _prepare(options)
    if dry:
        counts = dry_run(inputs, settings)
        click.echo(
            f"{counts.records} records, {counts.length_nt} nt, {counts.chunks} chunks; "
            f"model set {settings.model}. Nothing was written."
        )
        return
    done = run(inputs, out, settings=settings, resume=resume, force=force, console=_bar(options))
    _report(done, quiet=options["quiet"])


@cli.command("predict")
@click.argument("out", type=click.Path(path_type=Path))
@_fdr_option
@_settings_options
def predict_command(out: Path, **options: Any) -> None:
    """Score the stored feature tables of the run in OUT again."""
    settings = _prepare(options)
    done = predict(out, options["model"], settings=settings, console=_bar(options))
    _report(done, quiet=options["quiet"])


class _ManyFiles(click.Command):
    """Lets --virus and --other take several files each, as a shell's patterns give them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its files."""
        spread: list[str] = []
        option = None
        for arg in args:
            if option and not arg.startswith("-"):
                spread += [option, arg]
            elif arg in ("--virus", "--other"):
                option = arg
            else:
                option = None
                spread.append(arg)
        return super().parse_args(ctx, spread)


@cli.command("train", cls=_ManyFiles)
@click.option("--virus", required=True, multiple=True, help="Files of viruses.")
@click.option("--other", required=True, multiple=True, help="Files of all else.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--name", help="Of the new model set; default: the folder's name.")
@click.option("--length", type=int, help="Chunk length in nt; default: the model set's own.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of the encoders.")
@click.option("--cds-only", is_flag=True, help="Learn from frames in an annotated CDS (GenBank).")
@click.option(
    "--groups",
    type=click.Path(path_type=Path),
    help="Table of record id, tab, group: records that must stay together. Default: records that "
    "share a 31-mer.",
)
@click.option("--split", default="80/10/10", help="Training/validation/test, percent; 80/10/10.")
@click.option("--hidden", type=int, help="Width of the hidden layer; default 512.")
@click.option("--epochs", type=int, help="At most so many; default 100.")
@click.option("--patience", type=int, help="Epochs without a better validation; default 8.")
@click.option("--seed", type=int, help="Of the split and the training; default 1.")
@click.option("--resume", is_flag=True, help="Continue an earlier training.")
@click.option("--force", is_flag=True, help="Start anew; replaces the model set in the folder.")
@click.option("--keep-work", is_flag=True, help="Keep the feature tables, in OUT.work.")
@_settings_options
def train_command(
    virus: tuple[str, ...], other: tuple[str, ...], out: Path, **options: Any
) -> None:
    """Train a classifier on the encoders of a model set, from labelled records.

    --virus and --other take FASTA, FASTQ or GenBank files, plain or compressed.
    """
    if options["resume"] and options["force"]:
        raise click.UsageError("--resume and --force exclude each other.")
    from virnuc_dask.train import train
    from virnuc_dask.training.training_options import parse_options

    way = {name: options.pop(name) for name in ("resume", "force")}
    names = ("name", "split", "groups", "cds_only", "keep_work")
    how = parse_options(
        **{name: options.pop(name) for name in names},
        **{name: options.pop(name) for name in ("hidden", "epochs", "patience", "seed")},
    )
    settings = _prepare(options)
    done = train(virus, other, out, settings=settings, options=how, console=_bar(options), **way)
    if not options["quiet"]:
        click.echo(f"{done.report.summary()}\nmodel set  {done.folder}/")


@cli.command("evaluate", cls=_ManyFiles)
@click.argument("sets", nargs=-1, required=True, metavar="SET...")
@click.option("--virus", required=True, multiple=True, help="Files of viruses.")
@click.option("--other", required=True, multiple=True, help="Files of all else.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--length",
    "lengths",
    type=int,
    multiple=True,
    help="Chunk length in nt; several are compared. Default: each set's own.",
)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Of the encoders.")
@click.option("--resume", is_flag=True, help="Continue an earlier evaluation in the folder.")
@click.option("--force", is_flag=True, help="Start anew in a folder that holds an evaluation.")
@_computing_options
def evaluate_command(
    sets: tuple[str, ...],
    virus: tuple[str, ...],
    other: tuple[str, ...],
    out: Path,
    lengths: tuple[int, ...],
    resume: bool,
    force: bool,
    **options: Any,
) -> None:
    """Measure how well model sets (SET: mini, or a folder) tell viruses from all else.

    --virus and --other take FASTA or FASTQ files, plain or compressed; each file is a group of its
    own in the report.
    """
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other.")
    from virnuc_dask.evaluate import evaluate, summary_lines

    settings = _prepare(options)
    bar = _bar(options)
    content = evaluate(
        sets, virus, other, out, settings, lengths, resume=resume, force=force, console=bar
    )
    for warning in content["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    if not options["quiet"]:
        click.echo("\n".join([*summary_lines(content), f"report  {out / 'evaluation.html'}"]))


@cli.command("pretrain")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the model set that an earlier training made.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Every event, debug messages too.")
def pretrain_command(config: Path, force: bool, quiet: bool, verbose: bool) -> None:
    """Train encoders and a classifier as CONFIG (YAML) says; an interrupted training goes on."""
    from virnuc_dask.pretrain import pretrain
    from virnuc_dask.pretraining.recipe import PretrainSettings

    show_log(console, quiet=quiet, verbose=verbose)
    settings = PretrainSettings.read(config)
    report = pretrain(settings, force=force, console=None if quiet else console)
    if not quiet:
        click.echo(f"{report.summary()}\nmodel set  {settings.out}/")


@cli.group()
def models() -> None:
    """List, show, verify and import model sets."""


@models.command("list")
def models_list() -> None:
    """Name the embedded model sets."""
    for name in registry.EMBEDDED:
        info = registry.read_info(registry.find(name))
        lengths = ", ".join(map(str, info.chunk_lengths))
        encoders = f"{info.nucleotide.architecture} + {info.peptide.architecture}"
        click.echo(f"{name}\t{info.version}\tchunks of {lengths} nt\t{encoders}")


@models.command("show")
@click.argument("name")
def models_show(name: str) -> None:
    """Print the model card and the checksums of a model set."""
    folder = registry.find(name)
    info = registry.read_info(folder)
    card = folder / "README.md"
    if card.is_file():
        click.echo(card.read_text(encoding="utf-8"))
    click.echo(f"folder    {folder}\nchecksum  {info.checksum}")
    for file, digest in info.files.items():
        click.echo(f"  {digest}  {file}")


@models.command("verify")
@click.argument("name")
def models_verify(name: str) -> None:
    """Compare every file of a model set with its SHA-256."""
    folder = registry.find(name)
    info = registry.read_info(folder)
    registry.verify(folder, info)
    click.echo(f"{info.name} {info.version}: {len(info.files)} files are what they should be.")


@models.command("import")
@click.option("--name", required=True, help="What the model set is to be called.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option(
    "--length",
    "lengths",
    required=True,
    type=int,
    multiple=True,
    help="Chunk length of the classifier, in nt; the first is the default.",
)
@click.option(
    "--dnabert-s",
    required=True,
    type=click.Path(path_type=Path),
    help="Hugging Face folder of DNABERT-S.",
)
@click.option(
    "--esm2",
    required=True,
    type=click.Path(path_type=Path),
    help="ESM-2 as a fair-esm .pt file or a Hugging Face folder.",
)
@click.option(
    "--classifier",
    required=True,
    type=click.Path(path_type=Path),
    help="The published .pth, or safetensors.",
)
def models_import(
    name: str,
    out: Path,
    lengths: tuple[int, ...],
    dnabert_s: Path,
    esm2: Path,
    classifier: Path,
) -> None:
    """Make a model set from published checkpoints; no pickle in them is executed."""
    from virnuc_dask.modelsets.importers import Checkpoints, import_modelset

    info = import_modelset(name, out, lengths, Checkpoints(dnabert_s, esm2, classifier))
    click.echo(f"{out}: model set {info.name!r}, {info.feature_dim} features, {info.checksum[:12]}")


def _prepare(options: dict[str, Any]) -> Settings:
    """Set up logging, and build the settings from the flags that were given."""
    show_log(console, quiet=options["quiet"], verbose=options["verbose"])
    here = ("config", "quiet", "verbose")
    in_cluster = ("scheduler", "scheduler_file", "workers", "threads", "device")
    flags = {
        f"cluster.{name}" if name in in_cluster else name: value
        for name, value in options.items()
        if name not in here
    }
    flags["cluster.kind"] = flags.pop("cluster_kind")
    return load_settings(options["config"], flags)


def _bar(options: dict[str, Any]) -> Console | None:
    return None if options["quiet"] else console


def _report(done: Run, *, quiet: bool) -> None:
    """Print the summary; exit with 5 if something failed."""
    if not quiet:
        click.echo(summary_text(done))
    if done.failures:
        _fail(
            f"{len(done.failures)} partition(s) failed; their chunks stand in "
            f"{done.folder / 'failed.tsv'} with the reason. --resume tries them again.",
            FAILED,
        )


def summary_text(done: Run) -> str:
    """What a run found, for people."""
    found, contigs = done.summary, done.summary["contigs"]
    return "\n".join(
        [
            f"records         {found['records']:,}",
            f"chunks          {found['chunks']:,} ({found['chunks_scored']:,} with an open frame)",
            f"frames          {found['frames']:,}",
            f"virus contigs   {contigs['virus']:,}  (others {contigs['others']:,}, "
            f"unscored {contigs['unscored']:,})",
            *_fdr_line(found),
            *(
                f"{'' if place else 'most viral':<16}{_scores(contig)}  "
                f"{contig['call']:<6}  {contig['record_id'][:_WIDEST_ID]}"
                for place, contig in enumerate(found["highest"])
            ),
            f"seconds         {found['elapsed_s']:,.1f}",
            f"outputs         {done.folder}/",
            "                contigs.tsv  virus.fasta  chunks.parquet  prediction_results.txt",
        ]
    )


def _fdr_line(found: Mapping[str, Any]) -> list[str]:
    """How records were called where a false discovery rate was asked for."""
    if found.get("fdr") is None:
        return []
    share = found["prevalence"]
    estimated = "nothing was scored" if share is None else f"estimated share of viruses {share:.1%}"
    return [f"called by       {found['called_by']}  ({estimated})"]


def _scores(contig: Mapping[str, Any]) -> str:
    chance = f"  probability {contig['probability']:.3f}" if "probability" in contig else ""
    return f"{contig['score']:.3f}{chance}"
