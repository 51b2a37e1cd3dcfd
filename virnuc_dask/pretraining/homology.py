"""Which genes resemble held-out ones: MMseqs2 compares their proteins.

A random split of genes measures memory: relatives of nearly every gene are on the other side. Here
genomes are drawn, and then every gene that resembles a gene of a side more held out is left out,
so that no protein of the test is similar to one of training or validation.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import UsageError
from virnuc_dask.pretraining.genes import OTHER, PARTS, VIRUS, Gene, part_of
from virnuc_dask.sequences.frames import translate

# Enough for the largest family; a search that stops before leaves relatives in training.
_MOST_HITS = 100_000
_HIGHEST_EVALUE = 1e-3
# A block of viral genes with so many relatives among prokaryotic genes infects prokaryotes.
_FEWEST_PROKARYOTIC = 0.1


@dataclass(frozen=True, slots=True)
class Likeness:
    """What counts as similar: identity of the aligned residues over a share of the shorter one.

    ``sensitivity`` is MMseqs2's ``-s``.
    """

    identity: float = 0.30
    coverage: float = 0.50
    sensitivity: float = 5.0


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of genes by side, and the viral genomes with relatives among prokaryotic genes."""

    parts: Mapping[str, list[int]]
    left_out: int
    phages: frozenset[str]


def split_genes(
    genes: Sequence[Gene], shares: Mapping[str, float], likeness: Likeness, threads: int
) -> Split:
    """Draw genomes for validation and test, and leave out what resembles them.

    Parameters
    ----------
    shares
        Of the genomes, for `TEST` and `VALIDATION`.

    Raises
    ------
    UsageError
        If MMseqs2 is not installed or fails.
    """
    parts = [part_of(gene.genome, shares) for gene in genes]
    rank = np.array([PARTS.index(part) for part in parts])
    held_out = np.flatnonzero(rank)
    query, target = similar_pairs(genes, held_out.tolist(), likeness, threads)
    dropped = np.zeros(len(genes), np.bool_)
    dropped[target[rank[target] < rank[query]]] = True
    dropped[query[rank[query] < rank[target]]] = True
    kept = {part: np.flatnonzero(~dropped & (rank == n)).tolist() for n, part in enumerate(PARTS)}
    return Split(kept, int(dropped.sum()), _phages(genes, held_out, query, target))


def similar_pairs(
    genes: Sequence[Gene], queries: Iterable[int], likeness: Likeness, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (query, target) of indices of genes whose proteins are similar.

    A gene's protein is the reading of its first frame: genes are coding sequences.

    Raises
    ------
    UsageError
        If MMseqs2 is not installed or fails.
    """
    if not shutil.which("mmseqs"):
        raise UsageError(
            "the split by homology needs MMseqs2 and finds no `mmseqs`; install it "
            "(Debian: mmseqs2, conda: bioconda::mmseqs2)."
        )
    with tempfile.TemporaryDirectory(prefix="virnuc-homology-") as place:
        folder = Path(place)
        proteins = [translate(gene.dna).rstrip("*").replace("*", "X") for gene in genes]
        _write(folder / "all.faa", proteins, range(len(genes)))
        if _write(folder / "queries.faa", proteins, queries):
            _search(folder, likeness, threads)
        pairs = _read_pairs(folder / "pairs.tsv")
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return pairs[:, 0], pairs[:, 1]


def _search(folder: Path, likeness: Likeness, threads: int) -> None:
    names = [str(folder / name) for name in ("queries.faa", "all.faa", "pairs.tsv", "work")]
    options = {
        "-s": likeness.sensitivity,
        "--min-seq-id": likeness.identity,
        "-c": likeness.coverage,
        "--cov-mode": 5,  # of the shorter one
        "-e": _HIGHEST_EVALUE,
        "--max-seqs": _MOST_HITS,
        "--threads": threads,
        "--format-output": "query,target",
        "-v": 1,
    }
    command = ["mmseqs", "easy-search", *names]
    command += [str(word) for option in options.items() for word in option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise UsageError(f"mmseqs failed ({done.returncode}): {told or 'it does not say why'}")


def _read_pairs(path: Path) -> NDArray[np.int64]:
    """Shape (pairs, 2); a file that is not there or has no line has no pair."""
    if not path.exists() or not path.stat().st_size:
        return np.empty((0, 2), np.int64)
    return np.loadtxt(path, np.int64, ndmin=2)


def _write(path: Path, proteins: Sequence[str], chosen: Iterable[int]) -> int:
    """Write those that have a residue; their number."""
    written = [index for index in chosen if proteins[index]]
    with path.open("w", encoding="ascii") as stream:
        stream.writelines(f">{index}\n{proteins[index]}\n" for index in written)
    return len(written)


def _phages(
    genes: Sequence[Gene],
    held_out: NDArray[np.int64],
    query: NDArray[np.int64],
    target: NDArray[np.int64],
) -> frozenset[str]:
    """Held-out viral genomes of which enough genes resemble a prokaryotic gene."""
    is_other = np.array([gene.kind == OTHER for gene in genes])
    related = set(query[is_other[target]].tolist())
    share: dict[str, list[bool]] = {}
    for index in held_out.tolist():
        if genes[index].kind == VIRUS:
            share.setdefault(genes[index].genome, []).append(index in related)
    return frozenset(
        genome for genome, hits in share.items() if np.mean(hits) >= _FEWEST_PROKARYOTIC
    )
