"""Genomes and markers → the tables that a training reads, in its work folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from virnuc_dask.lab.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Prepared:
    """The files that are ready, all in one folder, and a hash of what they were made from."""

    folder: Path
    fingerprint: str  # also in the footer of each table

    @property
    def fragments(self) -> Path:
        """fragment, record, class, group, start, end, length_nt, round, fold, doubtful, …."""
        return self.folder / "fragments.parquet"

    @property
    def genes(self) -> Path:
        """fragment, the columns of `Genes`, doubtful; ordered by (fragment, start)."""
        return self.folder / "genes.parquet"

    @property
    def markers(self) -> Path:
        """dna, peptide, kind, group, similar_to."""
        return self.folder / "markers.parquet"

    @property
    def sequences(self) -> Path:
        """fragment, dna: a row a fragment."""
        return self.folder / "sequences.parquet"

    @property
    def tests(self) -> Path:
        """A folder: contigs.tsv, virus.fasta, other.fasta."""
        return self.folder / "tests"


def prepare(recipe: Recipe, work: Path) -> Prepared:
    """Make what is not there yet."""
    raise NotImplementedError
