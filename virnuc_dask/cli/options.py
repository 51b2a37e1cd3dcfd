"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from rich.console import Console

from virnuc_dask.cluster.monitor import show_log
from virnuc_dask.config import ClusterSettings, Settings, load_settings
from virnuc_dask.encoders.precision import AUTO, PRECISIONS

Command = TypeVar("Command", bound=Callable[..., None])

console = Console(stderr=True)

model_option = click.option("--model", help="Model set: mini (embedded), or a folder.")
fdr_option = click.option(
    "--fdr", type=float, help="Call by q-value, so that at most this share of the calls is false."
)
_LOUDNESS = (
    click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Every event, debug messages too."),
)
_COMPUTING = (
    click.option("--config", type=click.Path(path_type=Path), help="A preset (YAML)."),
    click.option(
        "--cluster",
        "cluster_kind",
        type=click.Choice(["auto", "none", "cpu", "cuda"]),
        help="Where to compute; auto: CUDA workers when there is a GPU, else CPU workers.",
    ),
    click.option("--scheduler", help="Address of a Dask scheduler that is running."),
    click.option("--scheduler-file", help="Scheduler file of a cluster that is running."),
    click.option("--tls-ca-file", help="Certificate authority of a protected cluster."),
    click.option("--tls-cert", help="Own certificate, for a protected cluster."),
    click.option("--tls-key", help="Its private key."),
    click.option("--workers", type=int, help="Workers to start."),
    click.option("--threads", type=int, help="Threads of each worker."),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        help="What workers compute on; auto: a GPU where there is one.",
    ),
    *_LOUDNESS,
)
_LABELLED = (
    click.option("--virus", required=True, multiple=True, help="Files of viruses."),
    click.option("--other", required=True, multiple=True, help="Files of all else."),
)


def folder_option(what: str) -> Callable[[Command], Command]:
    """``-o``, the folder that a command writes."""
    return click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help=what)


def precision_option(what: str) -> Callable[[Command], Command]:
    """``--precision``."""
    return click.option("--precision", type=click.Choice([AUTO, *PRECISIONS]), help=what)


def restart_options(resume: str, force: str) -> Callable[[Command], Command]:
    """``--resume`` and ``--force`` with their help; `take_restart` takes them."""
    options = (
        click.option("--resume", is_flag=True, help=resume),
        click.option("--force", is_flag=True, help=force),
    )

    def decorate(command: Command) -> Command:
        return _with(options, command)

    return decorate


def loudness_options(command: Command) -> Command:
    """``--quiet`` and ``--verbose``."""
    return _with(_LOUDNESS, command)


def computing_options(command: Command) -> Command:
    """The options of every command that computes; `prepare` takes them."""
    return _with(_COMPUTING, command)


def labelled_options(command: Command) -> Command:
    """``--virus`` and ``--other``, for commands of the class `ManyFiles`."""
    return _with(_LABELLED, command)


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


class ManyValues(click.Command):
    """Lets the options in ``several`` take several values each, as a shell's patterns give them."""

    several: ClassVar[tuple[str, ...]] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values."""
        spread: list[str] = []
        option = None
        for arg in args:
            if option and not arg.startswith("-"):
                spread += [option, arg]
            elif arg in self.several:
                option = arg
            else:
                option = None
                spread.append(arg)
        return super().parse_args(ctx, spread)


class ManyFiles(ManyValues):
    """Lets --virus and --other take several files each."""

    several = ("--virus", "--other")


def take_restart(options: dict[str, Any]) -> tuple[bool, bool]:
    """Take ``resume`` and ``force`` out of ``options``.

    Raises
    ------
    click.UsageError
        If both are set.
    """
    resume, force = options.pop("resume"), options.pop("force")
    if resume and force:
        raise click.UsageError("--resume and --force exclude each other.")
    return resume, force


def prepare(options: dict[str, Any]) -> Settings:
    """Set up logging, and build the settings from the flags that were given."""
    show_log(console, quiet=options["quiet"], verbose=options["verbose"])
    here = ("config", "quiet", "verbose")
    in_cluster = {field.name for field in fields(ClusterSettings)}
    flags = {
        f"cluster.{name}" if name in in_cluster else name: value
        for name, value in options.items()
        if name not in here
    }
    flags["cluster.kind"] = flags.pop("cluster_kind")
    return load_settings(options["config"], flags)


def bar(*, quiet: bool) -> Console | None:
    """Where to draw a progress bar."""
    return None if quiet else console
