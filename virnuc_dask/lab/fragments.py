"""Genomes → contigs as assemblies give them, and the genes that a caller finds in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import ArrayLike, NDArray

from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import FragmentSettings
from virnuc_dask.sequences.gene_columns import CALL
from virnuc_dask.sequences.genes import GeneCaller

_MOST_OFFSET_NT = 8_000  # before a record's begin, where the cutting of a later round begins
SEQUENCES = pa.schema([("fragment", pa.int64()), ("dna", pa.large_string())])
GENES = pa.schema(
    [
        ("fragment", pa.int64()),
        *((name, pa.from_numpy_dtype(CALL[name])) for name in CALL.names or ()),
        ("dna", pa.large_string()),
        ("peptide", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Fragments:
    """Stretches [start, end) of genomes, column by column, ordered by genome, round and place."""

    genome: NDArray[np.int64]  # row in the genomes
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    round: NDArray[np.int8]  # those of one round do not overlap

    def __len__(self) -> int:
        return len(self.genome)

    def dna(self, genomes: Sequence[Genome], first: int, last: int) -> list[str]:
        """The DNA of the fragments from ``first`` up to ``last``."""
        columns = (column[first:last] for column in (self.genome, self.start, self.end))
        return [genomes[row].dna[start:end] for row, start, end in zip(*columns, strict=True)]


def cut(genomes: Sequence[Genome], settings: FragmentSettings, seed: int) -> Fragments:
    """Cut every genome as often as the coverage of its class asks; what is left over at random.

    The cuts of a record depend on its name, its length and the seed alone.
    """
    rows = [
        (row, start, end, number)
        for row, genome in enumerate(genomes)
        for number, start, end in _cuts(genome, settings, seed)
    ]
    genome, start, end, number = np.array(rows, np.int64).reshape(-1, 4).T
    return Fragments(genome, start, end, number.astype(np.int8))


def _cuts(genome: Genome, settings: FragmentSettings, seed: int) -> Iterator[tuple[int, int, int]]:
    rng = np.random.default_rng((seed, xxhash.xxh3_64_intdigest(genome.record.encode())))
    coverage = settings.coverage[genome.kind]
    for number in range(int(np.ceil(coverage))):
        if rng.random() >= coverage - number:
            continue
        at = 0 if number == 0 else -int(rng.integers(_MOST_OFFSET_NT))
        while at < len(genome.dna):
            low, high = np.log(settings.shortest_nt), np.log(settings.longest_nt)
            length = round(float(np.exp(rng.uniform(low, high))))
            start, end = max(at, 0), min(at + length, len(genome.dna))
            at += length
            if end - start >= settings.shortest_nt:
                yield number, start, end


def batches(lengths_nt: ArrayLike, least_nt: int) -> Iterator[tuple[int, int]]:
    """Neighbours of at least ``least_nt`` together, as (first, last); the last ones may be less."""
    ends = np.cumsum(lengths_nt)
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = min(int(np.searchsorted(ends, before + least_nt)) + 1, len(ends))
        yield first, last
        first = last


def sequence_table(dna: Sequence[str], first: int) -> pa.Table:
    """A row a fragment; the first is number ``first``."""
    number = np.arange(first, first + len(dna))
    return pa.table({"fragment": number, "dna": list(dna)}, SEQUENCES)


def gene_table(dna: Sequence[str], first: int, caller: GeneCaller, threads: int) -> pa.Table:
    """A row a gene of the fragments from number ``first`` on, ordered by (fragment, start)."""
    genes = caller.find(dna, threads)
    columns = {name: getattr(genes, name) for name in CALL.names or ()}
    columns |= {"fragment": genes.sequence + first, "dna": genes.dna, "peptide": genes.peptides}
    return pa.table({name: columns[name] for name in GENES.names}, GENES)
