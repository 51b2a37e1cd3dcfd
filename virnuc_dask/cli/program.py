"""The program: its commands, and its exit codes."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

import virnuc_dask
from virnuc_dask import errors
from virnuc_dask.cli.terminal import open_standard_streams, say

_EXIT_CODES = (
    (errors.UsageError, 2),
    (errors.BadInputError, 3),
    (errors.BadTableError, 3),
    (errors.ModelSetError, 4),
    (errors.LostRowsError, 5),
    (errors.CannotWriteError, 5),
    (errors.NoClusterError, 6),
)
_INTERRUPTED, _TERMINATED = 130, 143
_CONTINUE = "continue with --resume (pretrain, models fetch: the same command)."
_UNABLE = "out of memory (ulimit -v?), or a part of this program is not installed"


# Module, name in it, and what the list of commands says. A command is imported when it is called
# or asked for its help, so that the list comes at once.
_COMMANDS = {
    "run": ("running", "run_command", "Find the viral records of FASTA or FASTQ files."),
    "predict": ("running", "predict_command", "Score the stored features of a run again."),
    "status": ("status", "status_command", "Tell how a run fares, from its folder."),
    "report": ("reporting", "report_command", "Make the page of a finished run again."),
    "compare": ("reporting", "compare_command", "Tell which calls of two runs differ, and why."),
    "doctor": ("doctor", "doctor_command", "Look whether a run can compute here."),
    "evaluate": ("training", "evaluate_command", "Measure how good model sets are."),
    "train": ("training", "train_command", "Train a classifier of your own."),
    "pretrain": ("training", "pretrain_command", "Train encoders of your own, with a classifier."),
    "models": ("models", "models", "Fetch, list, compare, import and pass on model sets."),
    "bench": ("measuring", "bench_command", "Measure this machine; recommend settings."),
}


class _Commands(click.Group):
    """The commands, those wanted most first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None if there is none."""
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        _read_dask_configuration()
        command: click.Command = getattr(import_module(f"virnuc_dask.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called; a misspelt one is told with the nearest."""
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], _COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (*_, line) in _COMMANDS.items()])


def _read_dask_configuration() -> None:
    """Dask reads the files in its folders when it is imported; `BadSettingError` if one is bad."""
    try:
        import_module("virnuc_dask.config")
    except ValueError as error:
        raise errors.BadSettingError(" ".join(str(error).split())) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(virnuc_dask.__version__, prog_name="virnuc_dask")
def cli() -> None:
    """Find viral sequences in metagenomes with a DNA and a protein language model."""


# What breaks off says so, as was asked for. Dask sets the levels of two of these.
_COMPLAINS = ("asyncio", "distributed", "distributed.client", "tornado", "tornado.application")


class _Terminated(SystemExit):
    """A request to end, as batch systems send it."""


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    """End in order: cancel, release, close. The next signal does not wait for that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _leave)
    for source in _COMPLAINS:
        logging.getLogger(source).setLevel(logging.CRITICAL)
    if number == signal.SIGTERM:
        raise _Terminated(_TERMINATED)
    raise KeyboardInterrupt


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Leave at once. Workers die with this process, and what is done is on disk."""
    os._exit(_TERMINATED if number == signal.SIGTERM else _INTERRUPTED)


def main() -> NoReturn:
    """Run the command line and exit."""
    open_standard_streams()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _unwind)
    try:
        cli(standalone_mode=False, prog_name="virnuc-dask")
    except errors.VirnucError as error:
        _fail(str(error), next(code for kind, code in _EXIT_CODES if isinstance(error, kind)))
    except (ImportError, OSError, MemoryError) as error:
        if not _is_of_the_machine(error):
            raise
        _fail(f"{_UNABLE} ({str(error) or type(error).__name__}).", 6)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        with suppress(OSError):  # standard error is full
            error.show()
        sys.exit(error.exit_code)
    except _Terminated:
        _fail(f"terminated; {_CONTINUE}", _TERMINATED)
    except (KeyboardInterrupt, click.Abort):
        _fail(f"interrupted; {_CONTINUE}", _INTERRUPTED)
    sys.exit(0)


def _is_of_the_machine(error: ImportError | OSError | MemoryError) -> bool:
    """Whether memory is short or a library is missing; all else is a bug, and shown as one."""
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("virnuc_dask")
    return isinstance(error, MemoryError) or error.errno == errno.ENOMEM


def _fail(message: str, code: int) -> NoReturn:
    say(f"error: {message}", err=True)
    sys.exit(code)
