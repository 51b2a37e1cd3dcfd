"""Fragments → records whose regions are known: a phage's genes put between a prokaryote's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.taught import Flags, Fragments

COLUMNS = ("fragment", "start", "end", "strand", "partial_left", "partial_right")
# A gene of a record: its row in ``genes.parquet``, and its place from the first gene's start.
PLACED = np.dtype(
    [
        *((name, np.int64) for name in ("record", "gene", "start", "end")),
        ("strand", np.int8),
        ("is_viral", np.bool_),
    ]
)
_PHAGE_NT = (5_000, 60_000)  # of an insertion; drawn evenly on a scale of logarithms
_HOST_NT = (10_000, 100_000)  # around it
_SEAM_NT = 100  # between a prokaryote's gene and a phage's
_ALONE = 4  # insertions for each phage alone

Placed = NDArray[np.void]
"""Genes (`PLACED`) by record and start."""


class Drawn(NamedTuple):
    """Records of both, and of each alone."""

    insertions: Placed
    phages: Placed
    hosts: Placed


class _Genomes(NamedTuple):
    genes: list[Placed]
    chance: NDArray[np.float64]

    def draw(self, between_nt: tuple[int, int], rng: np.random.Generator) -> Placed:
        """Genes within a length that is drawn, of a genome; all, if it is no longer."""
        genes = self.genes[rng.choice(len(self.genes), p=self.chance)]
        length = np.exp(rng.uniform(*np.log(between_nt)))
        at = genes["start"][0] + rng.random() * max(_length_nt(genes) - length, 0)
        inside = np.flatnonzero((genes["start"] >= at) & (genes["end"] <= at + length))
        return genes[inside[0] : inside[-1] + 1] if len(inside) else genes[:1]


def draw(
    fragments: Fragments, genes: pa.Table, is_used: Flags, insertions: int, seed: int
) -> Drawn:
    """Draw ``insertions`` from each fold that has phages and prokaryotes that are long enough.

    What is drawn is a stretch of whole genes of a genome's fragments, laid end to end. Phage and
    prokaryote are of one fold: what was learnt without one was learnt without the other. Every
    prokaryote is alone once, so far as it surely has no phage. ``is_used`` is of each fragment.
    """
    both, phages_alone, hosts_alone = [], [], []
    is_host = (fragments.kind == "prokaryote") & fragments.is_sure
    for fold in np.unique(fragments.fold[is_used]).tolist():
        used = is_used & (fragments.fold == fold)
        phages = _genomes(fragments, genes, used & (fragments.kind == "phage"), _PHAGE_NT[0])
        hosts = _genomes(fragments, genes, used & is_host, _HOST_NT[0])
        if phages.genes and hosts.genes:
            # Folds of tests are below zero, seeds are not.
            rng = np.random.default_rng((seed, fold + 2))
            both += [_inserted(phages, hosts, rng) for _ in range(insertions)]
            phages_alone += [[phages.draw(_PHAGE_NT, rng)] for _ in range(insertions // _ALONE)]
            hosts_alone += [[genome] for genome in hosts.genes]
    return Drawn(*(_records(parts) for parts in (both, phages_alone, hosts_alone)))


def unbroken(fragments: Fragments, genes: pa.Table, is_used: Flags) -> Placed:
    """Every prokaryote that surely has no phage, a record for each stretch that it really has.

    Genomes are not laid end to end here: what is left of phages on both sides of a gap would add
    up. ``is_used`` is of each fragment.
    """
    chosen = is_used & (fragments.kind == "prokaryote") & fragments.is_sure
    order, stretch = np.argsort(fragments.genome, kind="stable"), np.zeros(len(chosen), np.int64)
    is_new = np.diff(fragments.tile[order], prepend=-1) != 0
    stretch[order] = np.cumsum(is_new | ~chosen[order])
    laid = _laid(fragments, genes, chosen)
    of = stretch[genes["fragment"].to_numpy()[laid["gene"]]]
    return _records([[genes] for genes in np.split(laid, np.flatnonzero(np.diff(of)) + 1)])


def _inserted(phages: _Genomes, hosts: _Genomes, rng: np.random.Generator) -> list[Placed]:
    host = hosts.draw(_HOST_NT, rng)
    cut = int(rng.integers(1, max(len(host), 2)))
    return [host[:cut], phages.draw(_PHAGE_NT, rng), host[cut:]]


def _genomes(fragments: Fragments, genes: pa.Table, chosen: Flags, least_nt: int) -> _Genomes:
    """Genomes of the chosen fragments, of at least this length; no group of them rules."""
    laid = _laid(fragments, genes, chosen)
    every = np.split(laid, np.flatnonzero(np.diff(laid["record"])) + 1)
    long = [genome for genome in every if len(genome) and _length_nt(genome) >= least_nt]
    first = genes["fragment"].to_numpy()[[genome["gene"][0] for genome in long]]
    kind = np.full(len(long), "genome")
    return _Genomes(long, chances(kind, fragments.group[first], {"genome": 1.0}))


def _laid(fragments: Fragments, genes: pa.Table, chosen: Flags) -> Placed:
    """The genes of the chosen fragments, one after the other; ``record`` is the genome."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(fragments.genome[rows], kind="stable")]
    length = fragments.length_nt[rows].astype(np.int64)
    at = np.zeros(len(chosen), np.int64)
    at[rows] = np.cumsum(length) - length
    column = {name: genes[name].to_numpy() for name in COLUMNS}
    row = np.flatnonzero(chosen[column["fragment"]])
    row = row[np.argsort(at[column["fragment"][row]], kind="stable")]
    of = column["fragment"][row]
    laid = np.zeros(len(row), PLACED)
    laid["record"], laid["gene"], laid["strand"] = fragments.genome[of], row, column["strand"][row]
    laid["start"], laid["end"] = (at[of] + column[name][row] for name in ("start", "end"))
    laid["is_viral"] = fragments.is_virus[of]
    is_cut = column["partial_right"][row[:-1]] & column["partial_left"][row[1:]]
    return _mended(laid, is_cut & (np.diff(of) == 1))


def _mended(genes: Placed, is_cut: Flags) -> Placed:
    """Make one gene of two that the border of two fragments cut: the longer part stands for it."""
    is_one = is_cut & (np.diff(genes["record"]) == 0) & (np.diff(genes["strand"]) == 0)
    left = np.flatnonzero(is_one)
    length = genes["end"] - genes["start"]
    longer = np.where(length[left] >= length[left + 1], left, left + 1)
    start, end = genes["start"][left], genes["end"][left + 1]
    genes["start"][longer], genes["end"][longer] = start, end
    return np.delete(genes, 2 * left + 1 - longer)


def _length_nt(genes: Placed) -> int:
    return int(genes["end"].max() - genes["start"][0])


def _records(drawn: Sequence[Sequence[Placed]]) -> Placed:
    """A record of each list of stretches."""
    made = [np.zeros(0, PLACED)]
    for number, parts in enumerate(drawn):
        at = 0
        for part in filter(len, parts):
            moved = part.copy()
            moved["record"] = number
            for edge in ("start", "end"):
                moved[edge] += at - part["start"][0]
            at = int(moved["end"].max()) + _SEAM_NT
            made.append(moved)
    return np.concatenate(made)
