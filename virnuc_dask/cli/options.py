"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.shell_completion import CompletionItem
from rich.console import Console

from virnuc_dask.cluster.log_setup import show_log
from virnuc_dask.config import CLUSTERS, FORMATS, ClusterSettings, load_settings
from virnuc_dask.encoders.precision import AUTO, PRECISIONS
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.manifest import find, names
from virnuc_dask.tables.paths import STDIN, given_output, reading, writing

Command = TypeVar("Command", bound=Callable[..., None])

console = Console(stderr=True)


class InputPath(click.Path):
    """A path to read; one that the system refuses is told before anything is done with it.

    That nothing is there is left to who reads it, who knows what to do.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; `BadInputError` if it cannot be looked at, or read."""
        with reading(value), suppress(FileNotFoundError, NotADirectoryError):
            _require_right(Path(value), os.R_OK)
        return super().convert(value, param, ctx)


class InputText(InputPath):
    """An `InputPath` that stays a text; ``-`` is standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text; `BadInputError` if it cannot be looked at, or read."""
        if value != STDIN:
            super().convert(value, param, ctx)
        return value


class MateText(InputText):
    """An `InputText` of an option that takes two."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text; `click.UsageError` if it is the next option."""
        if value.startswith("-") and value != STDIN:
            self.fail(f"{value} is an option, not a file; two files of mates, R1 R2.", param, ctx)
        return super().convert(value, param, ctx)


class OutputPath(click.Path):
    """A path to write; one that the system refuses is told before anything is done with it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; `BadOutputError` if it cannot be looked at, or written, or is an address."""
        with writing(value):
            _require_right(_nearest(given_output(value)), os.W_OK)
        return super().convert(value, param, ctx)


def _require_right(path: Path, mode: int) -> None:
    path.stat()
    if not os.access(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _nearest(path: Path) -> Path:
    """The path, or the folder above it that is there and would take what is missing."""
    try:
        path.stat()
    except FileNotFoundError:
        return path if path == path.parent else _nearest(path.parent)
    return path


def _jobs(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """A number of jobs, or auto."""
    if value in (None, "auto"):
        return value
    return int(click.INT(value, param, ctx))


def _completing(words: Callable[[], Iterable[str]]) -> Callable[..., list[CompletionItem]]:
    """What the Tab key offers: words that begin so, else folders."""
    return lambda _context, _option, begun: (
        [CompletionItem(word) for word in words() if word.startswith(begun)]
        or [CompletionItem(begun, type="dir")]
    )


_SETS = "Model set: mini, one that was fetched, or a folder."
model_option = click.option("--model", shell_complete=_completing(names), help=_SETS)
fdr_option = click.option(
    "--fdr", type=float, help="Call by q-value, so that at most this share of the calls is false."
)
formats_option = click.option(
    "--formats",
    multiple=True,
    callback=lambda _ctx, _param, value: ",".join(value).split(",") if value else None,
    metavar="|".join(FORMATS),
    help="What other tools read, too; several with commas. legacy: scores in "
    "prediction_results_highestscore.csv; genomad: virus_summary.tsv.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as one JSON object, for programs."
)
_FILE = InputText()
# What is read and must not be replaced, besides inputs and model sets.
_READ = ("config", "scheduler_file", "tls_ca_file", "tls_cert", "tls_key")


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator of several."""

    def decorate(command: Command) -> Command:
        return functools.reduce(lambda inner, option: option(inner), reversed(options), command)

    return decorate


def folder_option(what: str) -> Callable[[Command], Command]:
    """``-o``, the folder that a command writes."""
    return click.option("-o", "--out", required=True, type=OutputPath(), help=what)


def precision_option(what: str) -> Callable[[Command], Command]:
    """``--precision``."""
    return click.option("--precision", type=click.Choice([AUTO, *PRECISIONS]), help=what)


def restart_options(resume: str, force: str) -> Callable[[Command], Command]:
    """``--resume`` and ``--force`` with their help; `prepare` takes them."""
    return _with(
        click.option("--resume", is_flag=True, help=resume),
        click.option("--force", is_flag=True, help=force),
    )


# Of the summary; each command takes them by name.
shown_options = _with(
    click.option("--top", type=click.IntRange(0), help="Records in the printed list; default 5."),
    click.option(
        "--min-length",
        type=click.IntRange(0),
        help="Leave shorter records (nt) out of the printed list; files hold all.",
    ),
)
loudness_options = _with(
    click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Every event, debug messages too."),
)
# For commands of the class `ManyFiles`.
labelled_options = _with(
    click.option("--virus", required=True, multiple=True, type=_FILE, help="Files of viruses."),
    click.option("--other", required=True, multiple=True, type=_FILE, help="Files of all else."),
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="What to compute on; auto: a GPU where there is one.",
)
# Of every command that computes; `prepare` takes them.
computing_options = _with(
    click.option("--config", type=InputPath(), help="A preset (YAML)."),
    click.option(
        "--cluster",
        "cluster_kind",
        metavar=f"[{'|'.join(CLUSTERS)}]",
        shell_complete=_completing(lambda: CLUSTERS),
        help="Where to compute; auto: CUDA workers when there is a GPU, else CPU workers. A batch "
        "system starts them as jobs; slurm:gpu takes the section gpu of Dask's jobqueue.yaml.",
    ),
    click.option("--scheduler", help="Address of a Dask scheduler that is running."),
    click.option("--scheduler-file", type=_FILE, help="Its scheduler file."),
    click.option("--tls-ca-file", type=_FILE, help="Certificate authority of a protected cluster."),
    click.option("--tls-cert", type=_FILE, help="Own certificate, for a protected cluster."),
    click.option("--tls-key", type=_FILE, help="Its private key."),
    click.option("--workers", type=int, help="Workers to start."),
    click.option("--threads", type=int, help="Threads of each worker."),
    device_option,
    click.option("--jobs", "jobs_number", callback=_jobs, metavar="N|auto", help="To submit (1)."),
    click.option("--queue", "jobs_queue", help="Queue, or partition, of the jobs."),
    click.option("--account", "jobs_account", help="What the jobs are charged to."),
    click.option("--walltime", "jobs_walltime", help="Of each job, as the batch system takes it."),
    click.option("--job-memory", "jobs_memory", help="Of each job, as 16GB (default)."),
    click.option("--job-cores", "jobs_cores", type=int, help="Of each job; default 4."),
    click.option("--gpus-per-job", "jobs_gpus", type=int, help="A worker on each; default 0."),
    click.option(
        "--job-setup",
        "jobs_setup",
        multiple=True,
        help="Shell before the worker, such as 'module load cuda'; can be repeated.",
    ),
    loudness_options,
)


class ManyValues(click.Command):
    """Lets the options in ``several`` take several values each, as a shell's patterns give them."""

    several: ClassVar[tuple[str, ...]] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values."""
        spread: list[str] = []
        option = None
        for arg in args:
            if option and (arg == STDIN or not arg.startswith("-")) and not self.ends_values(arg):
                spread += [option, arg]
            elif arg in self.several:
                option = arg
            else:
                option = None
                spread.append(arg)
        return super().parse_args(ctx, spread)

    def ends_values(self, arg: str) -> bool:
        """Whether ``arg`` cannot be a value of these options: it is an argument then."""
        return False


class ManyFiles(ManyValues):
    """Lets --virus and --other take several files each."""

    several = ("--virus", "--other")

    def ends_values(self, arg: str) -> bool:
        """Model sets are known from files: `evaluate` takes them after these options, too."""
        with suppress(ModelSetError):  # who reads it will tell
            return bool(find(arg))
        return False


def prepare(options: dict[str, Any]) -> dict[str, Any]:
    """Set up logging; returns what every job takes by keyword: settings, console, files to keep.

    ``resume`` and ``force`` too, where the command has them; `click.UsageError` if both are set.
    """
    present = [name for name in ("resume", "force") if name in options]
    restart: dict[str, Any] = {name: options.pop(name) for name in present}
    if restart and all(restart.values()):
        raise click.UsageError("--resume and --force exclude each other.")
    show_log(console, quiet=options["quiet"], verbose=options["verbose"])
    in_cluster = {field.name for field in fields(ClusterSettings)}
    flags = {
        f"cluster.{name}" if name in in_cluster else name: value
        for name, value in options.items()
        if name not in ("config", "quiet", "verbose") and value != ()
    }
    for name in [name for name in flags if name.startswith("jobs_")]:
        flags[f"cluster.jobs.{name.removeprefix('jobs_')}"] = flags.pop(name)
    flags["cluster.kind"] = flags.pop("cluster_kind")
    return {
        "settings": load_settings(options["config"], flags),
        "console": None if options["quiet"] else console,
        "keep": tuple(options[name] for name in _READ if options.get(name)),
        **restart,
    }
