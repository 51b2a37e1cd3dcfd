"""The program: its commands, and its exit codes."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import click

import virnuc_dask
from virnuc_dask import errors
from virnuc_dask.cli.measuring import bench_command
from virnuc_dask.cli.models import models
from virnuc_dask.cli.running import predict_command, run_command
from virnuc_dask.cli.terminal import say
from virnuc_dask.cli.training import evaluate_command, pretrain_command, train_command

_EXIT_CODES = (
    (errors.UsageError, 2),
    (errors.BadInputError, 3),
    (errors.BadTableError, 3),
    (errors.ModelSetError, 4),
    (errors.LostRowsError, 5),
    (errors.NoClusterError, 6),
)
_INTERRUPTED, _TERMINATED = 130, 143


class _InOrder(click.Group):
    """Lists its commands as they were added: those wanted most come first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names."""
        return list(self.commands)


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(virnuc_dask.__version__, prog_name="virnuc_dask")
def cli() -> None:
    """Find viral sequences in metagenomes with a DNA and a protein language model."""


for _command in (
    run_command,
    predict_command,
    evaluate_command,
    train_command,
    pretrain_command,
    models,
    bench_command,
):
    cli.add_command(_command)


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
        _fail(
            "interrupted; continue with --resume (pretrain: the same command).",
            _INTERRUPTED,
        )
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    say(f"error: {message}", err=True)
    sys.exit(code)
