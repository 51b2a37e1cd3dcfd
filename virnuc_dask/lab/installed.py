"""Packages that only some commands need."""

from __future__ import annotations

from importlib.util import find_spec

from virnuc_dask.errors import UsageError


def require(command: str, *packages: str) -> None:
    """Check that packages are there, by the names that they are installed by.

    `UsageError` naming those that are not, and how to install them.
    """
    modules = {"scikit-learn": "sklearn"}
    if missing := [name for name in packages if find_spec(modules.get(name, name)) is None]:
        raise UsageError(
            f"{command} needs {', '.join(missing)}: pip install 'virnuc-dask[training]'."
        )
