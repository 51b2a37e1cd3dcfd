"""Contigs of known sides → the two models that weigh what their genes add up to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from virnuc_dask.lab.recipe import ContigSettings
from virnuc_dask.modelsets.contig_model import Logistic, Trees
from virnuc_dask.modelsets.gene_sums import Floats, GeneColumns
from virnuc_dask.sequences.gene_columns import START_TYPES
from virnuc_dask.tables.vectors import to_column

_STEPS = 400
_LEAST_DEVIATION = 1e-9

Flags = NDArray[np.bool_]


class Weighers(NamedTuple):
    """The two models."""

    logistic: Logistic
    trees: Trees

    def score(self, features: Floats) -> Floats:
        """The mean of both models' log-odds, as `contig_model.Reader.score`."""
        score: Floats = (self.logistic.score(features) + self.trees.score(features)) / 2
        return score


def gene_columns(
    genes: pa.Table, viral_models: NDArray[np.int64], evidence: NDArray[np.float32]
) -> GeneColumns:
    """Rows of a training's ``genes.parquet``, with the evidence that their predictions have."""
    given = {name: genes[name] for name in genes.column_names}
    given["strand"] = pc.if_else(pc.greater(genes["strand"], 0), "+", "-")
    given["start_type"] = pa.array(START_TYPES).take(genes["start_type"])
    given["evidence"] = to_column(evidence, "float32")
    return GeneColumns.of(pa.table(given), viral_models)


def fit(
    features: Floats, is_virus: Flags, weight: Floats, settings: ContigSettings, seed: int = 0
) -> Weighers:
    """Fit both models to records of these features; ``weight`` has a mean of 1, or near it."""
    return Weighers(
        _fit_logistic(features, is_virus, weight, settings),
        _fit_trees(features, is_virus, weight, settings, seed),
    )


def _fit_logistic(
    features: Floats, is_virus: Flags, weight: Floats, settings: ContigSettings
) -> Logistic:
    """Features that are all the same have no weight."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation < _LEAST_DEVIATION] = 1
    most = settings.most_deviations
    standard = np.clip((features - mean) / deviation, -most, most)
    with warnings.catch_warnings():
        # As far as it came is good enough: features that say the same converge slowly.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=settings.logistic_c, max_iter=_STEPS)
        model.fit(standard, is_virus, sample_weight=weight)
    return Logistic(mean, deviation, model.coef_[0], model.intercept_)


def _fit_trees(
    features: Floats, is_virus: Flags, weight: Floats, settings: ContigSettings, seed: int
) -> Trees:
    """As often as the settings have seeds; the mean of all."""
    options = {
        "objective": "binary",
        "num_leaves": settings.leaves,
        "learning_rate": settings.rate,
        "min_data_in_leaf": settings.fewest_in_leaf,
        "bagging_fraction": settings.subsample,
        "bagging_freq": 1,
        "feature_fraction": settings.columns,
        "lambda_l2": settings.ridge,
        "deterministic": True,
        "force_col_wise": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(features, is_virus.astype(np.float32), weight=weight)
    seeds = range(seed, seed + settings.seeds)
    return trees_of([lightgbm.train({**options, "seed": s}, data, settings.trees) for s in seeds])


def trees_of(boosters: list[lightgbm.Booster]) -> Trees:
    """The mean of LightGBM's raw scores, as arrays; its features must be finite numbers."""
    nodes: list[tuple[int, float, int, int, float]] = []
    trees = [tree for booster in boosters for tree in booster.dump_model()["tree_info"]]
    roots = [_add(tree["tree_structure"], nodes, 1 / len(boosters)) for tree in trees]
    feature, threshold, left, right, value = map(np.array, zip(*nodes, strict=True))
    return Trees(np.array(roots), feature, threshold, left, right, value)


def _add(
    node: Mapping[str, Any], nodes: list[tuple[int, float, int, int, float]], share: float
) -> int:
    """Append a node and all below it; its number."""
    number = len(nodes)
    if "leaf_value" in node:
        nodes.append((0, 0.0, number, number, node["leaf_value"] * share))
        return number
    nodes.append((0, 0.0, 0, 0, 0.0))  # its place: children come after it
    left, right = (_add(node[side], nodes, share) for side in ("left_child", "right_child"))
    nodes[number] = (node["split_feature"], node["threshold"], left, right, 0.0)
    return number
