"""Contigs of known sides → the two models that weigh what their genes add up to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from virnuc_dask.lab.recipe import ContigSettings
from virnuc_dask.modelsets.contig_model import Logistic, Trees
from virnuc_dask.modelsets.gene_sums import Floats, GeneColumns
from virnuc_dask.sequences.gene_columns import START_TYPES

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
    names = ("coding_score", "start_score", "rbs_score", "upstream_score", "type_score")
    column = {name: genes[name].to_numpy() for name in genes.column_names if "partial" in name}
    return GeneColumns(
        start=genes["start"].to_numpy(),
        end=genes["end"].to_numpy(),
        strand=genes["strand"].to_numpy(),
        is_partial=column["partial_left"] | column["partial_right"],
        start_type=np.array(START_TYPES)[genes["start_type"].to_numpy()],
        has_rbs=genes["rbs"].to_numpy(),
        translation_table=genes["translation_table"].to_numpy(),
        is_viral_model=np.isin(genes["model"].to_numpy(), viral_models),
        confidence=genes["confidence"].to_numpy(),
        scores=np.stack([genes[name].to_numpy() for name in names], axis=1),
        evidence=evidence,
    )


def fit(
    features: Floats, is_virus: Flags, weight: Floats, settings: ContigSettings, seed: int = 0
) -> Weighers:
    """Fit both models to records of these features; ``weight`` has a mean of 1, or near it."""
    return Weighers(
        fit_logistic(features, is_virus, weight, settings),
        fit_trees(features, is_virus, weight, settings, seed),
    )


def fit_logistic(
    features: Floats, is_virus: Flags, weight: Floats, settings: ContigSettings
) -> Logistic:
    """Fit a logistic regression; features that are all the same have no weight."""
    deviation = features.std(axis=0)
    deviation[deviation < _LEAST_DEVIATION] = 1
    width = features.shape[1]
    plain = Logistic(features.mean(axis=0), deviation, np.zeros(width), np.zeros(1))
    most = settings.most_deviations
    standard = np.clip((features - plain.mean) / deviation, -most, most)
    with warnings.catch_warnings():
        # As far as it came is good enough: features that say the same converge slowly.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=settings.logistic_c, max_iter=_STEPS)
        model.fit(standard, is_virus, sample_weight=weight)
    return Logistic(plain.mean, deviation, model.coef_[0], model.intercept_)


def fit_trees(
    features: Floats, is_virus: Flags, weight: Floats, settings: ContigSettings, seed: int = 0
) -> Trees:
    """Fit boosted trees, as often as the settings have seeds; the mean of all."""
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
    boosters = [
        lightgbm.train({**options, "seed": seed + number}, data, settings.trees)
        for number in range(settings.seeds)
    ]
    return trees_of(boosters)


def trees_of(boosters: list[lightgbm.Booster]) -> Trees:
    """The mean of LightGBM's raw scores, as arrays; its features must be finite numbers."""
    nodes: list[tuple[int, float, int, int, float]] = []
    roots = []
    for booster in boosters:
        for tree in booster.dump_model()["tree_info"]:
            roots.append(len(nodes))
            _add(tree["tree_structure"], nodes, 1 / len(boosters))
    feature, threshold, left, right, value = zip(*nodes, strict=True)
    return Trees(
        root=np.array(roots, np.int64),
        feature=np.array(feature, np.int64),
        threshold=np.array(threshold, np.float64),
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        value=np.array(value, np.float64),
    )


def _add(
    node: Mapping[str, Any], nodes: list[tuple[int, float, int, int, float]], share: float
) -> int:
    """Append a node and all below it; its number."""
    number = len(nodes)
    if "leaf_value" in node:
        nodes.append((0, 0.0, number, number, node["leaf_value"] * share))
        return number
    nodes.append((0, 0.0, 0, 0, 0.0))  # its place: children come after it
    left = _add(node["left_child"], nodes, share)
    right = _add(node["right_child"], nodes, share)
    nodes[number] = (node["split_feature"], node["threshold"], left, right, 0.0)
    return number
