"""Stretches of prokaryotes and plasmids that may be viral: neighbours that resemble phage genes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import UsageError
from virnuc_dask.lab.recipe import ProphageSettings

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_MOST_HITS = 20  # of a gene that MMseqs2 keeps: one would do


class Doubts(NamedTuple):
    """Of genes: which lie where there may be a virus, and which where there is one."""

    doubtful: BoolArray
    prophage: BoolArray


def hits(
    genes: Iterable[tuple[int, str]],
    phage_genes: Iterable[tuple[int, str]],
    settings: ProphageSettings,
    threads: int,
) -> IntArray:
    """Numbers of the peptides ``genes`` that resemble one of ``phage_genes``, ascending.

    `UsageError` if MMseqs2 is not installed, or fails.
    """
    with TemporaryDirectory(prefix="virnuc-prophages-") as folder:
        query, target, found = (Path(folder) / name for name in ("q.faa", "t.faa", "hits.tsv"))
        shortest = settings.shortest_residues
        if not _write(query, genes, shortest) or not _write(target, phage_genes, shortest):
            return np.empty(0, np.int64)
        _search(query, target, found, settings, threads)
        lines = [line.split("\t") for line in found.read_text().splitlines()]
    return np.unique(
        np.array([int(name) for name, bits in lines if float(bits) >= settings.bits], np.int64)
    )


def doubts(record: IntArray, place: IntArray, hit: BoolArray, settings: ProphageSettings) -> Doubts:
    """Which genes, in any order, lie in a window of neighbours of a record with many hits."""
    order = np.lexsort((place, record))
    record, rows, reach = record[order], np.arange(len(record)), settings.window // 2
    first = np.maximum(np.searchsorted(record, record, side="left"), rows - reach)
    last = np.minimum(np.searchsorted(record, record, side="right"), rows + reach + 1)
    total = np.concatenate(([0], np.cumsum(hit[order], dtype=np.int64)))
    many = np.empty(len(hit), np.int64)
    many[order] = total[last] - total[first]
    return Doubts(many >= settings.doubtful, many >= settings.prophage)


def stretches(record: IntArray, start: IntArray, end: IntArray, number: NDArray[Any]) -> IntArray:
    """Runs of genes of a record with one number, 0 left out: rows (record, start, end)."""
    order = np.lexsort((start, record))
    record, start, end, number = record[order], start[order], end[order], number[order]
    is_first = np.ones(len(record), np.bool_)
    is_first[1:] = (np.diff(record) != 0) | (number[1:] != number[:-1])
    first = np.flatnonzero(is_first)
    ends = np.maximum.reduceat(end, first) if len(first) else end
    return np.stack([record[first], start[first], ends], 1)[number[first] > 0]


def _write(path: Path, peptides: Iterable[tuple[int, str]], shortest: int) -> int:
    written = 0
    with path.open("w", encoding="ascii") as stream:
        for number, peptide in peptides:
            if len(peptide) >= shortest:
                stream.write(f">{number}\n{peptide}\n")
                written += 1
    return written


def _search(
    query: Path, target: Path, found: Path, settings: ProphageSettings, threads: int
) -> None:
    if (program := shutil.which("mmseqs")) is None:
        raise UsageError(
            "prophages are found by MMseqs2, and there is no `mmseqs`; install it "
            "(Debian: mmseqs2, conda: bioconda::mmseqs2)."
        )
    options: Sequence[str | float] = (
        *("-s", settings.sensitivity, "-e", settings.e_value),
        *("-c", settings.coverage, "--cov-mode", 5, "--max-seqs", _MOST_HITS),
        *("--threads", threads, "--format-output", "query,bits", "-v", 1),
    )
    given = (query, target, found, query.parent / "temporary")
    command = [program, "easy-search", *map(str, given), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["nothing"]
        raise UsageError(f"MMseqs2 failed with code {done.returncode}: {said[0]}.")
