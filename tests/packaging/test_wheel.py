"""The wheel: all of the package, nothing else, and complete without the repository."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A folder with what the wheel holds."""
    made, folder = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("unpacked")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", made]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = made.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    ZipFile(wheel).extractall(folder)
    return folder


def files(folder):
    every = {path for path in (folder / "virnuc_dask").rglob("*") if path.is_file()}
    return {path.relative_to(folder).as_posix() for path in every if path.suffix != ".pyc"}


def test_the_wheel_holds_the_whole_package(unpacked):
    assert files(unpacked) == files(ROOT)
    places = {path.name.partition("-")[0] for path in unpacked.iterdir()}
    assert places == {"virnuc_dask"}, "and what describes it"
    entry = next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    assert "virnuc-dask = virnuc_dask.cli:main" in entry
    assert next(unpacked.glob("*.dist-info/licenses/LICENSE")).stat().st_size


@pytest.mark.slow
def test_what_is_in_the_wheel_makes_a_run_and_its_page(unpacked, tmp_path):
    (tmp_path / "in.fa").write_text(f">a\n{'ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT' * 30}\n")
    command = [sys.executable, "-m", "virnuc_dask", "run", "in.fa", "-o", "out"]
    environ = os.environ | {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [*command, "--cluster", "none"], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").stat().st_size
