"""A run where all is read-only but its folder, by a user whom the machine does not know.

So it is in a container: with a user id that has no name, and a home that is not there, or none.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# The folder stays as it is; what it lies on becomes read-only.
READ_ONLY = (
    'mount --bind "$PWD" "$PWD" && mount -o remount,ro,bind / && cd "$PWD" '
    '&& ! touch "$PWD/../written" 2> /dev/null && exec "$@"'
)
UNKNOWN = ("unshare", "--map-user=4711", "--keep-caps", "--mount")


def unknown(folder: Path, *command: str, home: str | None = None) -> subprocess.CompletedProcess:
    """Run a command there as user 4711."""
    gone = {"HOME", "USER", "LOGNAME", "LNAME", "USERNAME"}
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    kept |= {"HOME": home} if home else {}
    return subprocess.run(
        [*UNKNOWN, "sh", "-c", READ_ONLY, "sh", *command],
        cwd=folder,
        env=kept | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("home", "way"), [("/nowhere", ("none",)), (None, ("cpu", "--workers", "1"))]
)
def test_a_run_needs_its_folder_and_a_temporary_one(tmp_path, home, way):
    if not sys.platform.startswith("linux") or unknown(tmp_path, "true").returncode:
        pytest.skip("no namespaces of mounts and users here")
    assert unknown(tmp_path, "id", "-un").returncode, "the user has no name"
    (tmp_path / "in.fa").write_text(f">a\n{'ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT' * 30}\n")
    command = [sys.executable, "-m", "virnuc_dask", "run", "in.fa", "-o", "out"]
    done = unknown(tmp_path, *command, "--cluster", *way, home=home)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/contigs.tsv").stat().st_size
    made = {path.name for path in tmp_path.iterdir()}
    assert made <= {"in.fa", "out", "dask-scratch-space"}
