"""Contigs of exact lengths to measure on, from genomes that are held out, but for prophages."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import VIRUSES, TestSettings
from virnuc_dask.lab.splits.folds import NEW_GROUPS, NEW_SPECIES, place_of
from virnuc_dask.tables.parquet import write_text

# Kinds of test. A new species is of a group that others of are trained on, a host of the genera
# that prophages are of.
NEW_GROUP, SPECIES, PROPHAGE, HOST, READ = "new_group", "new_species", "prophage", "host", "read"
_COLUMNS = (
    *("contig", "test", "class", "label", "group", "source"),
    *("record", "start", "end", "length_nt", "fold"),
)


@dataclass(frozen=True, slots=True)
class Contig:
    """A stretch [start, end) of a record."""

    test: str
    genome: Genome
    fold: int  # of its genome; below 0, held out
    start: int
    end: int

    @property
    def length_nt(self) -> int:
        """Bases."""
        return self.end - self.start

    @property
    def name(self) -> str:
        """Test, length, record and place."""
        return f"{self.test}_{self.length_nt}_{self.genome.record}_{self.start}"

    @property
    def label(self) -> str:
        """Virus or other."""
        is_virus = self.test == PROPHAGE or self.genome.kind in VIRUSES
        return "virus" if is_virus else "other"


@dataclass(frozen=True, slots=True)
class Held:
    """Genomes, which fold each is in, and stretches of them that are not what they seem."""

    genomes: Sequence[Genome]
    folds: Sequence[int]
    known: Sequence[bool]  # whether it is known where in it there may be a prophage
    possible_prophages: NDArray[np.int64]  # rows (genome, start, end)
    prophages: NDArray[np.int64]

    def of_fold(self, fold: int) -> list[int]:
        """Genomes of a fold of which it is known where there may be a prophage."""
        return [row for row, of in enumerate(self.folds) if of == fold and self.known[row]]

    def cut(self, row: int, test: str, length: int, start: int, end: int) -> Iterator[Contig]:
        """Tiles of a stretch of a genome."""
        for first in range(start, end - length + 1, length):
            yield Contig(test, self.genomes[row], self.folds[row], first, first + length)

    def tiles(self, rows: Iterable[int], test: str, length: int) -> Iterator[Contig]:
        """Tiles of the genomes in ``rows`` that are what their class says."""
        possible: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for row, start, end in self.possible_prophages.tolist():
            possible[row].append((start, end))
        for row in rows:
            genome = self.genomes[row]
            for contig in self.cut(row, test, length, 0, len(genome.dna)):
                around = (start < contig.end and contig.start < end for start, end in possible[row])
                if genome.kind in VIRUSES or not any(around):
                    yield contig


def draw(held: Held, settings: TestSettings) -> list[Contig]:
    """Every test's contigs, by a hash of their names the same ones each time."""
    contigs: list[Contig] = []
    for test, fold in ((NEW_GROUP, NEW_GROUPS), (SPECIES, NEW_SPECIES)):
        for length in settings.lengths_nt:
            contigs += _most(held.tiles(held.of_fold(fold), test, length), settings)
    contigs += _most(held.tiles(held.of_fold(NEW_GROUPS), READ, settings.reads_nt), settings)
    for length in settings.prophage_lengths_nt:
        contigs += _most(_prophages(held, length), settings)
    return contigs


def write(contigs: Sequence[Contig], folder: Path) -> None:
    """Write ``virus.fasta`` and ``other.fasta``, a record a contig, and last ``contigs.tsv``."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in ("virus", "other"):
        of = (c for c in contigs if c.label == label)
        entries = (f">{c.name}\n{c.genome.dna[c.start : c.end]}\n" for c in of)
        write_text(folder / f"{label}.fasta", "".join(entries))
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(_COLUMNS)
    for c in contigs:
        known = (c.genome.kind, c.label, c.genome.group, c.genome.source, c.genome.record)
        writer.writerow([c.name, c.test, *known, c.start, c.end, c.length_nt, c.fold])
    write_text(folder / "contigs.tsv", stream.getvalue())


def _prophages(held: Held, length: int) -> Iterator[Contig]:
    """Tiles of prophages in prokaryotes, and of what is none in the same genera.

    They are few, so that folds to train on give theirs too; prophages are never taught.
    """
    pieces = [
        contig
        for row, start, end in held.prophages.tolist()
        if held.genomes[row].kind == "prokaryote"
        for contig in held.cut(row, PROPHAGE, length, start, end)
    ]
    yield from pieces
    genera = {contig.genome.group for contig in pieces}
    rows = [
        row
        for row, genome in enumerate(held.genomes)
        if held.known[row] and genome.kind == "prokaryote" and genome.group in genera
    ]
    yield from held.tiles(rows, HOST, length)


def _most(contigs: Iterable[Contig], settings: TestSettings) -> list[Contig]:
    """So many of each class and label that the settings allow, chosen by hash, order kept."""
    apart: dict[tuple[str, str], list[Contig]] = defaultdict(list)
    for contig in contigs:
        apart[contig.genome.kind, contig.label].append(contig)
    kept = []
    for of in apart.values():
        count = min(settings.most, settings.most_nt // of[0].length_nt)
        chosen = sorted(range(len(of)), key=lambda row: place_of(of[row].name))[:count]
        kept += [of[row] for row in sorted(chosen)]
    return kept
