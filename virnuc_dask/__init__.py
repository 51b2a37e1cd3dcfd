"""Find viral sequences in metagenomes with language models, through Dask.

>>> import virnuc_dask
>>> run = virnuc_dask.run(["contigs.fasta"], "out")  # doctest: +SKIP
>>> run.contigs()  # doctest: +SKIP
>>> virnuc_dask.score({"a": "ATGGCTGAACGTCTG"})  # doctest: +SKIP
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virnuc_dask.config import Settings, load_settings
    from virnuc_dask.errors import VirnucError
    from virnuc_dask.in_memory import Embeddings, embed, map_partitions, score
    from virnuc_dask.modelsets.lifetime import release_models
    from virnuc_dask.modelsets.modelset import load_modelset
    from virnuc_dask.run import Run, run

__version__ = "0.2.0"
__all__ = [
    "Embeddings",
    "Run",
    "Settings",
    "VirnucError",
    "embed",
    "load_modelset",
    "load_settings",
    "map_partitions",
    "release_models",
    "run",
    "score",
]

# Where each name lives. Imported when it is asked for: Dask and Arrow take a second, torch several,
# and the version or the help need none of them.
_HOMES = {
    "Embeddings": "in_memory",
    "Run": "run",
    "Settings": "config",
    "VirnucError": "errors",
    "embed": "in_memory",
    "load_modelset": "modelsets.modelset",
    "load_settings": "config",
    "map_partitions": "in_memory",
    "release_models": "modelsets.lifetime",
    "score": "in_memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


class _Package(ModuleType):
    """Gives `run` as the function, although there is a module of that name."""

    @property
    def run(self) -> Any:
        return import_module(f"{__name__}.run").run

    @run.setter
    def run(self, module: ModuleType) -> None:
        """Importing the module would put it in the function's place."""


sys.modules[__name__].__class__ = _Package
