"""What the tests of workflows share: programs of others from PyPI, and ours on the path."""

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900  # with the network


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Installs packages from PyPI into an environment for them alone; where its programs are.

    What they depend on would clash with what the tests depend on, or is large.
    """

    def install(*packages: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, with_pip=True, symlinks=True)
        call = [folder / "bin" / "pip", "install", "--quiet", *packages]
        done = subprocess.run(call, capture_output=True, text=True, timeout=PATIENCE_S)
        if done.returncode:
            pytest.skip(f"cannot be installed here: {' '.join(packages)} ({done.stderr[-200:]})")
        return folder / "bin"

    return install


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables for a program that calls ``virnuc-dask``, which is this package."""
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "virnuc-dask"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m virnuc_dask "$@"\n'
    )
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
