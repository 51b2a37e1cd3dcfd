"""Regions found in records whose regions are known → how good they are."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.insertions import Drawn, Placed
from virnuc_dask.lab.prophages import stretches
from virnuc_dask.lab.taught import Flags
from virnuc_dask.modelsets.region_model import RegionModel, structure
from virnuc_dask.stages.regions import find

_BOUNDS_NT = (0, 10_000, 20_000, 40_000, 100_000)  # of classes of insertions
_GENOME_MB = 4
_DECIMALS = 4

IntArray = NDArray[np.int64]
Evidence = NDArray[np.float32]


class Matches(NamedTuple):
    """Of each insertion, what the regions of its record say."""

    length_nt: IntArray
    pieces: IntArray  # regions that reach into it
    covered: NDArray[np.float64]  # share of it that lies in regions
    is_found: Flags
    off_nt: IntArray  # (insertions, 2): how far the edges of the best region are from its own


def match(insertions: IntArray, regions: IntArray) -> Matches:
    """Match `stretches` that are regions with insertions, of which record i has the one in row i.

    An insertion is found if a region covers at least half of it, and lies in it with at least half
    of its own length. Its boundary errors are those of the region that covers most of it.
    """
    of, first, last = regions.T
    _, start, end = insertions[of].T
    length = insertions[:, 2] - insertions[:, 1]
    overlap = np.maximum(np.minimum(last, end) - np.maximum(first, start), 0)
    # The last one of an insertion is the one that covers most of it.
    order = np.lexsort((overlap, of))
    best = order[np.flatnonzero(np.diff(of[order], append=-1))]
    is_found, off = np.zeros(len(length), np.bool_), np.zeros((len(length), 2), np.int64)
    longer = np.maximum(end - start, last - first)
    is_found[of[best]] = 2 * overlap[best] >= longer[best]
    off[of[best], 0] = np.abs(first - start)[best]
    off[of[best], 1] = np.abs(last - end)[best]
    pieces = np.bincount(of[overlap > 0], minlength=len(length))
    return Matches(length, pieces, np.bincount(of, overlap, len(length)) / length, is_found, off)


def neighbours(genes: Placed) -> NDArray[np.float64]:
    """How genes lie among their neighbours, as `region_model.structure`."""
    return structure(*(genes[name] for name in ("record", "start", "end", "strand")))


def regions_in(genes: Placed, model: RegionModel, evidence: Evidence) -> IntArray:
    """`stretches` that a model finds; ``evidence`` is of each gene of the training."""
    log_ratio = model.log_ratio(evidence[genes["gene"]], neighbours(genes))
    _, number = find(log_ratio, genes["record"], model)
    return stretches(genes["record"], genes["start"], genes["end"], number)


def matches(genes: Placed, model: RegionModel, evidence: Evidence) -> Matches:
    """What a model finds of the viral stretch of each record."""
    insertions = stretches(*(genes[name] for name in ("record", "start", "end", "is_viral")))
    return match(insertions, regions_in(genes, model, evidence))


def false_a_megabase(hosts: Placed, model: RegionModel, evidence: Evidence) -> float:
    """Regions in a megabase of prokaryotes without a phage."""
    return len(regions_in(hosts, model, evidence)) / _megabases(hosts)


def figures(model: RegionModel, evidence: Evidence, drawn: Drawn) -> dict[str, dict[str, float]]:
    """Figures of insertions, by length and all, of phages alone, and of prokaryotes alone."""
    of = matches(drawn.insertions, model, evidence)
    found = {
        f"insertions, {least_nt} to {end} nt": _shares(
            of, (of.length_nt >= least_nt) & (of.length_nt < end)
        )
        for least_nt, end in pairwise(_BOUNDS_NT)
    }
    found["all insertions"] = _shares(of, of.length_nt > 0)
    alone = matches(drawn.phages, model, evidence)
    found["phages alone"] = _shares(alone, alone.length_nt > 0)
    false = false_a_megabase(drawn.hosts, model, evidence)
    found["prokaryotes alone"] = {
        "megabases": round(_megabases(drawn.hosts), _DECIMALS),
        "false_a_megabase": round(false, _DECIMALS),
        "false_a_genome": round(false * _GENOME_MB, _DECIMALS),
    }
    return {name: of for name, of in found.items() if of}


def _shares(of: Matches, rows: Flags) -> dict[str, float]:
    """How many of some are found, how far off, in how many pieces; nothing of none."""
    if not rows.any():
        return {}
    found = {"found": of.is_found[rows].mean(), "covered": of.covered[rows].mean()}
    if (known := rows & of.is_found).any():
        found["off_nt"], found["off_nt_90"] = np.quantile(of.off_nt[known], (0.5, 0.9))
        found["pieces"] = of.pieces[known].mean()
    shares = {name: round(float(value), _DECIMALS) for name, value in found.items()}
    return {"records": int(rows.sum()), **shares}


def _megabases(genes: Placed) -> float:
    """Of all records, to the end of each one's last gene."""
    return float(genes["end"][np.flatnonzero(np.diff(genes["record"], append=-1))].sum() / 1e6)
