"""What a command waits for before it does anything: the modules it imports."""

import errno
import os
import subprocess
import sys

import pytest

from virnuc_dask.cli.program import main

SLOW = {"torch", "esm", "sklearn", "scipy", "matplotlib", "Bio", "pyrodigal", "pandas"}
HEAVY = {"numpy", "pyarrow", "pandas", "dask", "distributed", "torch", "rich", "yaml"}


COMMAND = """
import sys
from virnuc_dask.cli import main
sys.argv[1:] = [{flag!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""
RUN = """
import virnuc_dask.run, virnuc_dask
from virnuc_dask import run
assert callable(virnuc_dask.run) and virnuc_dask.run is run
assert run.__module__ == 'virnuc_dask.run'
"""


@pytest.mark.parametrize(
    ("program", "imported", "not_imported"),
    [
        (COMMAND.format(flag="--help"), "click", HEAVY),
        (COMMAND.format(flag="--version"), "click", HEAVY),
        ("import virnuc_dask", "virnuc_dask", HEAVY | {"click"}),
        ("import virnuc_dask.cli.running, virnuc_dask.cli.training", "pyarrow", SLOW),
        (RUN, "pyarrow", {"pandas"}),
        ("import virnuc_dask.cluster.plugin", "distributed", SLOW - {"pandas"}),
    ],
    ids=["--help", "--version", "the package", "commands", "run is the function", "workers"],
)
def test_nothing_is_imported_that_is_not_needed(program, imported, not_imported):
    told = "import sys; print('imported', *{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{told}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.splitlines()[-1].split())
    assert imported in found
    assert not found & not_imported


def test_a_bad_file_in_dasks_own_folder_is_one_line_and_no_help_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("virnuc: {a: [")
    environ = {**os.environ, "DASK_CONFIG": str(tmp_path)}

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "virnuc_dask", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    done = call("run", "x.fa", "-o", "out")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "mine.yaml") in line
    assert call("--help").returncode == 0


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment"), True),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ImportError("cannot import name", name="virnuc_dask.run"), False),
    ],
)
def test_what_cannot_be_loaded_for_want_of_memory_is_one_line(command, monkeypatch, error, shown):
    def fail(_):
        raise error

    monkeypatch.setattr("virnuc_dask.cli.program.import_module", fail)
    if not shown:
        monkeypatch.setattr(sys, "argv", ["virnuc-dask", "run"])
        with pytest.raises(type(error)):
            main()
        return
    code, _, err = command("run", "x.fa", "-o", "out")
    assert code == 6
    assert err.count("\n") == 1
    assert "out of memory" in err
