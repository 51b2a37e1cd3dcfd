"""Numbers of contigs whose genes were scored out of fold → a reader of contigs, and its test."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from virnuc_dask.lab.calibrate_contigs import calibrate, familiarity
from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.recipe import NOISE, VIRUSES, CalibrationSettings, ContigSettings
from virnuc_dask.lab.taught import Flags, Fragments
from virnuc_dask.modelsets.contig_features import contig_features
from virnuc_dask.modelsets.contig_model import Logistic, Reader, Trees
from virnuc_dask.modelsets.gene_sums import Floats, GeneColumns, GeneSums
from virnuc_dask.sequences.gene_columns import START_TYPES
from virnuc_dask.tables.vectors import to_column

log = logging.getLogger(__name__)

_FAMILIAR = 40_000  # records that tell what is familiar, drawn as they are weighed
_STEPS = 400
_LEAST_DEVIATION = 1e-9

_Nodes = list[tuple[int, float, int, int, float]]  # feature, threshold, left, right, value


@dataclass(frozen=True, slots=True)
class Contigs:
    """Contigs that have genes, or frames: a row each."""

    fragment: NDArray[np.int64]  # row in the fragments
    length_nt: Floats
    features: Floats
    columns: int  # of evidence

    @classmethod
    def of(
        cls,
        genes: GeneColumns,
        record: NDArray[np.int64],
        fragment: NDArray[np.int64],
        length_nt: Floats,
    ) -> Contigs:
        """Sum genes by ``record``, ascending; the others are by that number."""
        sums = GeneSums.of(genes, record)
        length = length_nt[sums.record_index]
        features = contig_features(sums, length)
        return cls(fragment[sums.record_index], length, features, genes.evidence.shape[1])


@dataclass(frozen=True, slots=True)
class Learnt:
    """A reader, and the evidence of each contig by models that had not seen its part."""

    reader: Reader
    evidence: Floats  # by contig; NaN where no part that it is in was left out


def gene_columns(
    genes: pa.Table, viral_models: NDArray[np.int64], evidence: NDArray[np.float32]
) -> GeneColumns:
    """Rows of a training's ``genes.parquet``, with the evidence that their predictions have."""
    given = {name: genes[name] for name in genes.column_names}
    given["strand"] = pc.if_else(pc.greater(genes["strand"], 0), "+", "-")
    given["start_type"] = pa.array(START_TYPES).take(genes["start_type"])
    given["evidence"] = to_column(evidence, "float32")
    return GeneColumns.of(pa.table(given), viral_models)


def learn_reader(
    contigs: Contigs,
    fragments: Fragments,
    is_taught: Flags,
    settings: ContigSettings,
    calibration: CalibrationSettings,
    seed: int,
) -> Learnt:
    """Fit both models to contigs of the fragments that are taught, calibrated without each part.

    Those that are not taught, prophages among them, are judged by models without their part too.
    """
    kind, group = fragments.judged_kind[contigs.fragment], fragments.group[contigs.fragment]
    of, length = fragments.part[contigs.fragment], contigs.length_nt
    taught_kind = np.where(is_taught[contigs.fragment], kind, "")
    chance = chances(taught_kind, group, settings.shares)
    taught = np.flatnonzero(chance)
    weight = chance * len(taught)
    viral = np.isin(kind, VIRUSES)

    def learn(rows: NDArray[np.int64]) -> Weighers:
        return fit(contigs.features[rows], viral[rows], weight[rows], settings, seed)

    score = np.full(len(of), np.nan)
    for left_out in np.unique(of[taught]):
        weighers = learn(taught[of[taught] != left_out])
        score[of == left_out] = weighers.score(contigs.features[of == left_out])
        log.info("contig model without part %d", left_out)
    judged = chances(np.where(np.isnan(score), "", kind), group, calibration.shares)
    rows = np.flatnonzero(judged)
    lengths, heavy = calibration.lengths_nt, judged[rows] * len(rows)
    curve = calibrate(score[rows], length[rows], viral[rows], heavy, lengths)
    # Noise is no example of what is familiar.
    real = np.where(kind == NOISE, 0, chance)
    drawn = np.random.default_rng(seed).choice(len(of), _FAMILIAR, p=real / real.sum())
    known = familiarity(contigs.features[drawn], length[drawn], lengths)
    reader = Reader(contigs.columns, *learn(taught), curve, known)
    return Learnt(reader, curve.of(score, length))


class Weighers(NamedTuple):
    """The two models."""

    logistic: Logistic
    trees: Trees

    def score(self, features: Floats) -> Floats:
        """The mean of both models' log-odds, as `contig_model.Reader.score`."""
        score: Floats = (self.logistic.score(features) + self.trees.score(features)) / 2
        return score


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
    nodes: _Nodes = []
    trees = [tree for booster in boosters for tree in booster.dump_model()["tree_info"]]
    roots = [_add(tree["tree_structure"], nodes, 1 / len(boosters)) for tree in trees]
    feature, threshold, left, right, value = map(np.array, zip(*nodes, strict=True))
    return Trees(np.array(roots), feature, threshold, left, right, value)


def _add(node: Mapping[str, Any], nodes: _Nodes, share: float) -> int:
    """Append a node and all below it; its number."""
    number = len(nodes)
    if "leaf_value" in node:
        nodes.append((0, 0.0, number, number, node["leaf_value"] * share))
        return number
    nodes.append((0, 0.0, 0, 0, 0.0))  # its place: children come after it
    left, right = (_add(node[side], nodes, share) for side in ("left_child", "right_child"))
    nodes[number] = (node["split_feature"], node["threshold"], left, right, 0.0)
    return number
