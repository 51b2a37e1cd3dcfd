from pathlib import Path

import pytest

from virnuc_dask.sequences.genes import GeneCaller, gene_caller
from virnuc_dask.sequences.records import read_records

DEMO = Path(__file__).parents[1] / "data" / "demo.fasta.gz"


@pytest.fixture(scope="session")
def demo() -> list[str]:
    """The demo's DNA; lambda is the first."""
    return [record.dna for record in read_records([str(DEMO)])]


@pytest.fixture(scope="session")
def caller() -> GeneCaller:
    """pyrodigal-gv with all its models."""
    return gene_caller("pyrodigal-gv", None)
