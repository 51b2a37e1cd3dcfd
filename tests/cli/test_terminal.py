"""Standard streams that take nothing, or not every letter, fail no command."""

import subprocess
import sys

import pytest

SAY = """
import sys
from virnuc_dask.cli.terminal import open_standard_streams, say
open_standard_streams()
say("λ \\x1b found")
say("done", err=True)
sys.exit(5)
"""


def shell(redirections: str, **environ: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirections}', sys.executable, SAY],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environ},
    )


@pytest.mark.parametrize(
    ("redirections", "told"),
    [
        (">/dev/full", "warning: standard output cannot be written: No space left on device.\n"),
        (">&-", "warning: standard output cannot be written: it is closed.\n"),
        ("2>/dev/full", ""),
        ("2>&-", ""),
        (">/dev/full 2>/dev/full", ""),
        (">&- 2>&-", ""),
    ],
)
def test_a_stream_that_takes_nothing_is_told_and_changes_no_exit_code(redirections, told):
    done = shell(redirections)
    assert done.returncode == 5
    assert done.stderr == (told and told + "done\n")


def test_a_reader_that_left_is_no_failure():
    done = shell("| true; exit 5")
    assert done.stderr == "done\n"


@pytest.mark.parametrize(
    "environ", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_letters_that_a_stream_cannot_take_are_spelt_out(environ):
    assert shell("", **environ).stdout == "\\u03bb \\x1b found\n"
