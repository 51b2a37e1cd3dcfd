import random
import sys
from pathlib import Path

import pytest

from virnuc_dask.pretraining.genes import OTHER, TEST, TRAIN, TRANSCRIPT, VALIDATION, VIRUS, Gene
from virnuc_dask.pretraining.material import Material

# The programs in benchmarks/ import one another by their plain names.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

STOPS = ("TAA", "TAG", "TGA")
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in STOPS]
FAVOURITE = {VIRUS: "A", OTHER: "C", TRANSCRIPT: "G"}


def make_gene(rng, kind, genome, number):
    """An open reading frame of 540 to 780 nt that prefers codons with its kind's letter."""
    weights = [1 + codon.count(FAVOURITE[kind]) for codon in CODONS]
    dna = "".join(rng.choices(CODONS, weights, k=rng.randrange(180, 261)))
    return Gene(f"{genome}_{number}", dna, kind, genome)


@pytest.fixture(scope="session")
def material():
    rng = random.Random(0)
    parts = {
        part: [
            make_gene(rng, kind, f"{part}-{kind}-{genome}", number)
            for kind in FAVOURITE
            for genome in range(12)
            for number in range(3)
        ]
        for part in (TRAIN, VALIDATION, TEST)
    }
    phages = frozenset(f"{part}-virus-{genome}" for part in parts for genome in range(6))
    return Material(parts, phages, left_out={}, sha256={"toy.fasta": "5ab1e"}, groups={})
