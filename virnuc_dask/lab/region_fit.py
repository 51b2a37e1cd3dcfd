"""Records whose regions are known → the model that finds regions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from virnuc_dask.lab.insertions import Drawn
from virnuc_dask.lab.region_figures import false_a_megabase, matches, neighbours
from virnuc_dask.modelsets.region_model import RegionModel

_MOST, _INITIAL, _LEAST_GENES = 4.0, 0.1, 3
_ENTER, _LEAVE = (1e-4, 1e-3), (0.01, 0.03, 0.1)  # what is tried
_FARTHEST, _HALVINGS = 4.0, 10  # in the search for the bias


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
        [evidence[genes["gene"], 0], np.concatenate([neighbours(of) for of in drawn])]
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
