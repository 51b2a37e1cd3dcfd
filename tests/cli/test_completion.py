"""What the Tab key offers."""

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from virnuc_dask.cli import cli


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ([], "ru", {("plain", "run")}),
        (["run", "--cluster"], "s", {("plain", "slurm"), ("plain", "sge")}),
        (["run", "--model"], "m", {("plain", "mini")}),
        (["predict", "--model"], "/sets/", {("dir", "/sets/")}),
        (["run"], "--no-r", {("plain", "--no-report")}),
        (["run"], "cont", {("file", "cont")}),
    ],
)
def test_the_tab_key_offers_what_can_follow(words, begun, expected):
    found = ShellComplete(cli, {}, "virnuc-dask", "").get_completions(words, begun)
    assert {(item.type, item.value) for item in found} == expected


def test_a_shell_that_asks_is_answered():
    asked = {"COMP_WORDS": "virnuc-dask ru", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "virnuc_dask"],
        env=os.environ | asked | {"_VIRNUC_DASK_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "plain,run", "")
