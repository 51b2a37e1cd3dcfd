"""Contigs of exact lengths to measure on, from genomes that are held out, but for prophages.

Each is of one kind of test: `NEW_GROUP`, `NEW_SPECIES` of groups that others of are trained on,
`PROPHAGE` against `HOST`, others of the same genera, or `READ`.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import VIRUSES, TestSettings
from virnuc_dask.lab.splits.folds import NEW_GROUPS, NEW_SPECIES, place_of
from virnuc_dask.tables.parquet import write_text

NEW_GROUP, SPECIES, PROPHAGE, HOST, READ = "new_group", "new_species", "prophage", "host", "read"

Spans = NDArray[np.int64]  # rows (genome, start, end)


@dataclass(frozen=True, slots=True)
class Contig:
    """A stretch [start, end) of a record, and what is known of it."""

    contig: str
    test: str
    kind: str  # the class of its genome
    label: str  # virus or other
    group: str
    source: str
    record: str
    start: int
    end: int
    length_nt: int
    fold: int  # of its genome; below 0, held out
    genome: int  # row in the genomes


@dataclass(frozen=True, slots=True)
class Held:
    """Genomes, which fold each is in, and stretches of them that are not what they seem."""

    genomes: Sequence[Genome]
    folds: Sequence[int]
    known: Sequence[bool]  # whether it is known where in it there may be a prophage
    possible_prophages: Spans
    prophages: Spans


def draw(held: Held, settings: TestSettings) -> list[Contig]:
    """Every test's contigs, by a hash of their names the same ones each time."""
    contigs: list[Contig] = []
    for test, fold in ((NEW_GROUP, NEW_GROUPS), (SPECIES, NEW_SPECIES)):
        rows = [row for row, of in enumerate(held.folds) if of == fold and held.known[row]]
        for length in settings.lengths_nt:
            contigs += _most(_tiles(held, rows, test, length), settings)
    new = [row for row, of in enumerate(held.folds) if of == NEW_GROUPS and held.known[row]]
    contigs += _most(_tiles(held, new, READ, settings.reads_nt), settings)
    for length in settings.prophage_lengths_nt:
        contigs += _most(_prophages(held, length), settings)
    return contigs


def write(contigs: Sequence[Contig], genomes: Sequence[Genome], folder: Path) -> None:
    """Write ``virus.fasta`` and ``other.fasta``, a record a contig, and last ``contigs.tsv``."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in ("virus", "other"):
        of = [contig for contig in contigs if contig.label == label]
        dna = (genomes[c.genome].dna[c.start : c.end] for c in of)
        entries = (f">{c.contig}\n{text}\n" for c, text in zip(of, dna, strict=True))
        write_text(folder / f"{label}.fasta", "".join(entries))
    write_text(folder / "contigs.tsv", _listed(contigs))


def _listed(contigs: Iterable[Contig]) -> str:
    names = [field.name for field in fields(Contig) if field.name != "genome"]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(["class" if name == "kind" else name for name in names])
    writer.writerows([getattr(contig, name) for name in names] for contig in contigs)
    return stream.getvalue()


def _tiles(held: Held, rows: Iterable[int], test: str, length: int) -> Iterator[Contig]:
    """Tiles of the genomes in ``rows`` that are what their class says."""
    possible = _by_genome(held.possible_prophages)
    for row in rows:
        genome = held.genomes[row]
        whole = _span(row, 0, len(genome.dna))
        yield from (
            contig
            for contig in _cut(held, whole, test, length)
            if genome.kind in VIRUSES or not _overlaps(possible[row], contig.start, contig.end)
        )


def _prophages(held: Held, length: int) -> Iterator[Contig]:
    """Tiles of prophages in prokaryotes, and of what is none in the same genera.

    They are few, so that folds to train on give theirs too; prophages are never taught.
    """
    of = [span for span in held.prophages if held.genomes[span[0]].kind == "prokaryote"]
    pieces = [contig for span in of for contig in _cut(held, span, PROPHAGE, length)]
    yield from pieces
    genera = {contig.group for contig in pieces}
    rows = [
        row
        for row, genome in enumerate(held.genomes)
        if held.known[row] and genome.kind == "prokaryote" and genome.group in genera
    ]
    yield from _tiles(held, rows, HOST, length)


def _span(row: int, start: int, end: int) -> Spans:
    return np.array([row, start, end], np.int64)


def _cut(held: Held, span: Spans, test: str, length: int) -> Iterator[Contig]:
    row, first, last = span.tolist()
    genome = held.genomes[row]
    is_virus = test == PROPHAGE or genome.kind in VIRUSES
    for number, start in enumerate(range(first, last - length + 1, length)):
        yield Contig(
            contig=f"{test}_{length}_{genome.record}_{first + number * length}",
            test=test,
            kind=genome.kind,
            label="virus" if is_virus else "other",
            group=genome.group,
            source=genome.source,
            record=genome.record,
            start=start,
            end=start + length,
            length_nt=length,
            fold=held.folds[row],
            genome=row,
        )


def _most(contigs: Iterable[Contig], settings: TestSettings) -> list[Contig]:
    """So many of each class and label that the settings allow, chosen by hash, order kept."""
    apart: dict[tuple[str, str], list[Contig]] = defaultdict(list)
    for contig in contigs:
        apart[contig.kind, contig.label].append(contig)
    kept = []
    for of in apart.values():
        count = min(settings.most, settings.most_nt // of[0].length_nt)
        chosen = sorted(range(len(of)), key=lambda row: place_of(of[row].contig))[:count]
        kept += [of[row] for row in sorted(chosen)]
    return kept


def _by_genome(spans: Spans) -> dict[int, list[tuple[int, int]]]:
    table: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, start, end in spans.tolist():
        table[row].append((start, end))
    return table


def _overlaps(spans: Iterable[tuple[int, int]], start: int, end: int) -> bool:
    return any(first < end and start < last for first, last in spans)
