from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask.sequences.genes import GeneCaller, Genes, gene_caller
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


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Genes, Genes], None]:
    """Holds genes to others, column by column, to the bit."""

    def hold(one: Genes, two: Genes) -> None:
        for field in fields(Genes):
            assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name

    return hold
