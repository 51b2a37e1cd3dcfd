"""Find viral sequences in metagenomes with language models, through Dask.

>>> import virnuc_dask
>>> run = virnuc_dask.run(["contigs.fasta"], "out")  # doctest: +SKIP
>>> run.dataset("chunks").to_table().to_pandas()  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from virnuc_dask.cluster.graph import build_graph
from virnuc_dask.config import Settings, load_settings
from virnuc_dask.errors import VirnucError
from virnuc_dask.run import Run, run

if TYPE_CHECKING:
    from virnuc_dask.modelsets.modelset import load_modelset

__version__ = "0.1.0"
__all__ = [
    "Run",
    "Settings",
    "VirnucError",
    "build_graph",
    "load_modelset",
    "load_settings",
    "run",
]


def __getattr__(name: str) -> Any:
    # torch takes longer to import than everything else together, and the client does without.
    if name == "load_modelset":
        from virnuc_dask.modelsets.modelset import load_modelset

        return load_modelset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
