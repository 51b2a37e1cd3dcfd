"""Genomes and markers → the tables that a training reads, in its work folder.

Each stage leaves a table whose footer says what it was made from: what is there is not made again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.config import cores
from virnuc_dask.errors import BadInputError, OutputExistsError
from virnuc_dask.lab import prophages
from virnuc_dask.lab.fragments import (
    GENES,
    SEQUENCES,
    Fragments,
    batches,
    cut,
    gene_table,
    sequence_table,
)
from virnuc_dask.lab.genomes import Exclusions, Genome, make_noise, read_genomes
from virnuc_dask.lab.markers import TEST_BIT, marker_table, read_markers
from virnuc_dask.lab.prophages import Doubts
from virnuc_dask.lab.recipe import VIRUSES, DataSettings, Recipe
from virnuc_dask.lab.splits.folds import folds_of
from virnuc_dask.lab.taught import Prepared
from virnuc_dask.sequences.genes import gene_caller
from virnuc_dask.tables.parquet import (
    is_done,
    read_pieces,
    read_table,
    table_writer,
    write_table,
)
from virnuc_dask.tables.paths import reading
from virnuc_dask.tables.plan import fingerprint

log = logging.getLogger(__name__)

_MARK = ".virnuc-pretrain"  # in a folder that a training made

# Settings of a stage that is gone: without them caches would have other names.
_TESTS = {
    "lengths_nt": (500, 1_000, 3_000, 5_000, 10_000, 20_000),
    "prophage_lengths_nt": (3_000, 10_000),
    "reads_nt": 300,
    "most": 3_000,
    "most_nt": 9_000_000,
}
BATCH_NT = 8_000_000  # of fragments whose genes are one file: what is lost when it is stopped
_IN_PROPHAGE = 0.6  # of a fragment's genes, from which it is one
_HIDES = ("prokaryote", "plasmid")  # what may hide a phage


def prepare(recipe: Recipe, work: Path) -> Prepared:
    """Make in ``work`` what is not there yet. The same recipe and files give the same tables.

    `BadInputError` if an input file cannot be read, or has not the SHA-256 of the recipe.
    `UsageError` if MMseqs2 is not installed. `OutputExistsError` if ``work`` holds files and no
    training made it: some could be replaced.
    """
    _claim(work)
    making = _Making(recipe, work)
    prepared = making.prepared
    if not making.is_done("sequences", prepared.sequences):
        making.write_sequences()
    # The fragments' table is written after the genes'.
    if not making.is_done("fragments", prepared.fragments):
        making.write_called()
        making.write_hits()
        making.write_genes()
        making.write_fragments()
    if not making.is_done("markers", prepared.markers):
        making.write_markers()
    return prepared


class _Places(NamedTuple):
    """Of each gene its fragment, its genome's row and its place there."""

    fragment: NDArray[np.int64]
    genome: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


class _Making:
    """The stages, and what more than one of them reads."""

    def __init__(self, recipe: Recipe, work: Path) -> None:
        self.recipe = recipe
        self.threads = recipe.threads or cores()
        self.prints = _fingerprints(recipe)
        self.prepared = Prepared.of(work, self.prints["tests"])
        self.hits = work / "hits.parquet"
        self.called = work / "called"

    def is_done(self, stage: str, path: Path) -> bool:
        done = is_done(path, self.prints[stage])
        log.info("%s: %s", path.name, "there" if done else "to be made")
        return done

    @cached_property
    def exclusions(self) -> Exclusions:
        return Exclusions.read(self.recipe.data)

    @cached_property
    def genomes(self) -> list[Genome]:
        genomes = read_genomes(self.recipe.data, self.exclusions)
        return genomes + make_noise(genomes, self.recipe.fragments.noise_nt, self.recipe.seed)

    @cached_property
    def kind(self) -> NDArray[np.str_]:
        return np.array([genome.kind for genome in self.genomes])

    @cached_property
    def folds(self) -> list[int]:
        return folds_of(self.genomes, self.recipe.splits)

    @cached_property
    def cuts(self) -> Fragments:
        return cut(self.genomes, self.recipe.fragments, self.recipe.seed)

    @cached_property
    def parts(self) -> dict[Path, tuple[int, int]]:
        """First and last fragment of each file of genes."""
        spans = enumerate(batches(self.cuts.end - self.cuts.start, BATCH_NT))
        return {self.called / f"genes-{number:04d}.parquet": span for number, span in spans}

    def write_sequences(self) -> None:
        path, mark = self.prepared.sequences, self.prints["sequences"]
        with table_writer(path, SEQUENCES, lambda: mark) as writer:
            for first, last in self.parts.values():
                writer.write(sequence_table(self.cuts.dna(self.genomes, first, last), first))

    def write_called(self) -> None:
        settings = self.recipe.fragments
        caller = gene_caller(settings.caller, settings.models or None)
        self.called.mkdir(exist_ok=True)
        for path, (first, last) in self.parts.items():
            if not is_done(path, self.prints["genes"]):
                dna = self.cuts.dna(self.genomes, first, last)
                table = gene_table(dna, first, caller, self.threads)
                write_table(path, table, self.prints["genes"])
                log.info("%s of %d: %d genes", path.name, len(self.parts), len(table))

    def read_called(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for path in self.parts:
            yield read_table(path, self.prints["genes"], columns)

    def write_hits(self) -> None:
        if self.is_done("hits", self.hits):
            return
        suspects, phages = self._peptides(_HIDES), self._peptides(("phage",))
        found = prophages.hits(suspects, phages, self.recipe.prophages, self.threads)
        write_table(self.hits, pa.table({"gene": found}), self.prints["hits"])
        log.info("%d genes of prokaryotes and plasmids resemble a phage's", len(found))

    def _peptides(self, kinds: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Numbered peptides of fragments of these classes, of phages each base's once."""
        kind = self.kind[self.cuts.genome]
        wanted = np.isin(kind, kinds) & ((kind != "phage") | (self.cuts.round == 0))
        first = 0
        for table in self.read_called(["fragment", "peptide"]):
            rows = np.flatnonzero(wanted[table["fragment"].to_numpy()])
            peptides = table["peptide"].take(pa.array(rows)).to_pylist()
            yield from zip((rows + first).tolist(), peptides, strict=True)
            first += len(table)

    @cached_property
    def places(self) -> _Places:
        """Where every gene lies."""
        table = pa.concat_tables(self.read_called(["fragment", "start", "end"]))
        fragment, start, end = (column.to_numpy() for column in table.columns)
        offset = self.cuts.start[fragment]
        return _Places(fragment, self.cuts.genome[fragment], start + offset, end + offset)

    @cached_property
    def doubts(self) -> Doubts:
        """Of every gene."""
        hit = np.zeros(len(self.places.fragment), np.bool_)
        hit[read_table(self.hits, self.prints["hits"])["gene"].to_numpy()] = True
        return prophages.doubts(self.places.genome, self.places.start, hit, self.recipe.prophages)

    def suspicious(self, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Runs of flagged genes, as rows (genome, start, end)."""
        places = self.places
        return prophages.stretches(places.genome, places.start, places.end, flags)

    @cached_property
    def shares_kmers(self) -> NDArray[np.bool_]:
        """Of each genome: whether it is of others and shares much with known phages."""
        shared = np.array([genome.phage_24mers for genome in self.genomes])
        return ~np.isin(self.kind, VIRUSES) & (shared > self.recipe.prophages.phage_24mers)

    def write_genes(self) -> None:
        doubtful, first = self.doubts.doubtful, 0
        schema = GENES.append(pa.field("doubtful", pa.bool_()))
        mark = self.prints["fragments"]
        with table_writer(self.prepared.genes, schema, lambda: mark) as writer:
            for table in self.read_called():
                of = pa.array(doubtful[first : first + len(table)])
                writer.write(table.append_column("doubtful", of))
                first += len(table)

    def write_fragments(self) -> None:
        cuts, genomes = self.cuts, self.genomes
        doubtful, prophage = self._doubts_of_fragments()

        def of(values: Sequence[Any]) -> Any:
            return pa.array(values).take(pa.array(cuts.genome))

        columns = {
            "fragment": np.arange(len(cuts)),
            "record": of([genome.record for genome in genomes]),
            "class": of([genome.kind for genome in genomes]),
            "group": of([genome.group for genome in genomes]),
            "start": cuts.start,
            "end": cuts.end,
            "length_nt": cuts.end - cuts.start,
            "round": cuts.round,
            "fold": pc.cast(of(self.folds), pa.int8()),
            "doubtful": doubtful,
            "prophage": prophage,
            "source": of([genome.source for genome in genomes]),
        }
        write_table(self.prepared.fragments, pa.table(columns), self.prints["fragments"])

    def _doubts_of_fragments(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Those that reach into what may be viral, with a gene or not, and those that are."""
        cuts, of = self.cuts, self.places.fragment
        doubtful = self.shares_kmers[cuts.genome]
        for row, start, end in self.suspicious(self.doubts.doubtful):
            first, last = np.searchsorted(cuts.genome, [row, row + 1])
            reaches = (cuts.start[first:last] < end) & (start < cuts.end[first:last])
            doubtful[first:last] |= reaches
        genes = np.bincount(of, minlength=len(cuts))
        viral = np.bincount(of, self.doubts.prophage, minlength=len(cuts))
        return doubtful, (genes > 0) & (viral >= _IN_PROPHAGE * genes)

    def write_markers(self) -> None:
        data, settings = self.recipe.data, self.recipe.markers
        path = Path(data.markers) if data.markers else None
        markers = read_markers(path, settings, self.exclusions) if path else []
        table = marker_table(markers, self._viral_peptides(), settings)
        write_table(self.prepared.markers, table, self.prints["markers"])
        log.info("%d markers", len(table))

    def _viral_peptides(self) -> Iterator[tuple[int, list[str]]]:
        """By bit of `similar_to`, the peptides of viruses, each base's once."""
        columns = ["fragment", "class", "round", "fold"]
        fragments = read_table(self.prepared.fragments, self.prints["fragments"], columns)
        is_viral = np.isin(fragments["class"].to_numpy(zero_copy_only=False), VIRUSES)
        is_viral &= fragments["round"].to_numpy() == 0
        fold = fragments["fold"].to_numpy()
        bit = np.where(is_viral, np.where(fold < 0, TEST_BIT, fold), TEST_BIT + 1)
        peptides: dict[int, list[str]] = {number: [] for number in range(TEST_BIT + 1)}
        for table in read_pieces(self.prepared.genes, self.prints["fragments"]):
            of = bit[table["fragment"].to_numpy()]
            for number, found in peptides.items():
                rows = pa.array(np.flatnonzero(of == number))
                found += table["peptide"].take(rows).to_pylist()
        yield from peptides.items()


def _claim(work: Path) -> None:
    """Make the folder, or check that it is a training's."""
    work.mkdir(parents=True, exist_ok=True)
    mark = work / _MARK
    if mark.exists():
        return
    if any(work.iterdir()):
        raise OutputExistsError(
            f"{work}: holds files that no training made; give `work` another folder."
        )
    mark.touch()


def _fingerprints(recipe: Recipe) -> dict[str, str]:
    """Of each stage: its settings, and what it was made from."""
    fragments = asdict(recipe.fragments)
    who = {name: fragments.pop(name) for name in ("caller", "models")}
    data = [recipe.seed, recipe.data.exclude_shared, _checked_files(recipe.data)]
    before = fingerprint("sequences", data, fragments)
    prints = {"sequences": before}
    for stage, settings in (
        ("genes", who),
        ("hits", asdict(recipe.prophages)),
        ("fragments", asdict(recipe.splits)),
        ("markers", asdict(recipe.markers)),
        ("tests", _TESTS),
    ):
        before = prints[stage] = fingerprint(stage, before, settings)
    return prints


def _checked_files(data: DataSettings) -> list[str]:
    """The SHA-256 of every file that decides what is made, those of the recipe compared."""
    digests = [_sha256(path) for path in data.sources]
    if len(data.sha256 or digests) != len(digests):
        raise BadInputError(
            f"data.sha256 must have {len(digests)} sums: of {', '.join(data.sources)}."
        )
    for path, wanted, found in zip(data.sources, data.sha256 or digests, digests, strict=True):
        if wanted != found:
            raise BadInputError(f"{path}: has the SHA-256 {found}, not {wanted} of the recipe.")
    names = [data.exclude_names] if data.exclude_names else []
    return digests + [_sha256(path) for path in (*names, *data.exclude_similar)]


def _sha256(path: str) -> str:
    with reading(path), Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
