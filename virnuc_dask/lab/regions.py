"""Records whose regions are known → the model that finds regions, and how good it is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from virnuc_dask.lab.insertions import Drawn, Placed
from virnuc_dask.lab.prophages import stretches
from virnuc_dask.lab.taught import Flags
from virnuc_dask.modelsets.region_model import RegionModel, structure
from virnuc_dask.stages.regions import find

_MOST, _INITIAL, _LEAST_GENES = 4.0, 0.1, 3
_ENTER, _LEAVE = (1e-4, 1e-3), (0.01, 0.03, 0.1)  # what is tried
_FARTHEST, _HALVINGS = 4.0, 10  # in the search for the bias
_BOUNDS_NT = (0, 10_000, 20_000, 40_000, 100_000)  # of classes of insertions
_GENOME_MB = 4
_DECIMALS = 4

IntArray = NDArray[np.int64]
Evidence = NDArray[np.float32]


def fit_regions(
    drawn: Drawn, evidence: NDArray[np.float32], most_false: float
) -> RegionModel | None:
    """Fit the model that finds most insertions, among those with few enough false regions.

    A gene's log-likelihood ratio is a logistic regression. How often regions begin and end is
    tried; each time the ratio's bias is the highest with no more than ``most_false`` regions in a
    megabase of prokaryotes alone. Of ``evidence``, (genes of the training, columns), the viral
    logit alone is weighed: it has the others in it, which are the higher the more was known of
    other genes. None without insertions.
    """
    if not len(drawn.insertions):
        return None
    of_genes = _of_genes(drawn, evidence)
    tried = [
        _strict(replace(of_genes, enter=enter, leave=leave), drawn, evidence, most_false)
        for enter, leave in product(_ENTER, _LEAVE)
    ]
    return max(tried, key=lambda m: matches(drawn.insertions, m, evidence).is_found.mean())


def _of_genes(drawn: Drawn, evidence: NDArray[np.float32]) -> RegionModel:
    genes = np.concatenate(drawn)
    columns = np.column_stack(
        [evidence[genes["gene"], 0], np.concatenate([_neighbours(of) for of in drawn])]
    )
    # Both sides as heavy: what is fitted is a likelihood ratio.
    fitted = LogisticRegression(class_weight="balanced").fit(columns, genes["is_viral"])
    logit, *structure = fitted.coef_[0].tolist()
    return RegionModel(
        weight=np.array([logit, *[0.0] * (evidence.shape[1] - 1)]),
        bias=float(fitted.intercept_[0]),
        most=_MOST,
        initial=_INITIAL,
        enter=_ENTER[0],
        leave=_LEAVE[0],
        least_genes=_LEAST_GENES,
        structure=np.array(structure),
    )


def _strict(
    model: RegionModel, drawn: Drawn, evidence: NDArray[np.float32], most_false: float
) -> RegionModel:
    """The model with the highest bias that finds no more than that, by halving."""
    lowest, highest = model.bias - _FARTHEST, model.bias + _FARTHEST
    for _ in range(_HALVINGS):
        middle = (lowest + highest) / 2
        found = false_a_megabase(drawn.hosts, replace(model, bias=middle), evidence)
        lowest, highest = (lowest, middle) if found > most_false else (middle, highest)
    return replace(model, bias=lowest)


def _neighbours(genes: Placed) -> NDArray[np.float64]:
    """How genes lie among their neighbours."""
    return structure(*(genes[name] for name in ("record", "start", "end", "strand")))


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


def log_ratios(genes: Placed, model: RegionModel, evidence: Evidence) -> NDArray[np.float64]:
    """Of each gene; ``evidence`` is of each gene of the training."""
    return model.log_ratio(evidence[genes["gene"]], _neighbours(genes))


def regions_in(genes: Placed, model: RegionModel, evidence: Evidence) -> IntArray:
    """`stretches` that a model finds; ``evidence`` is of each gene of the training."""
    _, number = find(log_ratios(genes, model, evidence), genes["record"], model)
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


def record_lengths(genes: Placed) -> IntArray:
    """In nt, to the end of each record's last gene."""
    length_nt: IntArray = genes["end"][np.flatnonzero(np.diff(genes["record"], append=-1))]
    return length_nt


def _megabases(genes: Placed) -> float:
    return float(record_lengths(genes).sum() / 1e6)
