import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.lab.read_contigs import fit, gene_columns, trees_of
from virnuc_dask.lab.recipe import ContigSettings


@pytest.fixture(scope="module")
def records():
    """Features, whether it is a virus, and weights."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 5)) * [1, 10, 0.1, 1, 0] + [0, 100, 0, 0, 3]
    features[:, 3] = rng.integers(-1, 2, 600)  # zeros, which LightGBM has its own way with
    truth = features[:, 0] + (features[:, 1] - 100) / 10 + features[:, 3] > rng.normal(size=600)
    return features, truth, rng.uniform(0.5, 1.5, 600)


@pytest.mark.parametrize("is_constant", [False, True])  # then trees are leaves alone
def test_the_arrays_are_the_trees_of_lightgbm(records, is_constant):
    features, truth, weight = records
    features = np.zeros_like(features) if is_constant else features
    data = lightgbm.Dataset(features, truth.astype(float), weight=weight)
    options = {"objective": "binary", "num_leaves": 12, "verbose": -1}
    boosters = [lightgbm.train({**options, "seed": seed}, data, 20) for seed in (1, 2)]
    theirs = np.mean([booster.predict(features, raw_score=True) for booster in boosters], axis=0)
    np.testing.assert_allclose(trees_of(boosters).score(features), theirs, atol=1e-6)


def test_both_models_tell_viruses_and_a_feature_that_is_always_the_same_says_nothing(records):
    features, truth, weight = records
    weighers = fit(features, truth, weight, ContigSettings(trees=15, leaves=6, fewest_in_leaf=5))
    scores = [model.score(features) for model in weighers]
    for score in scores:
        assert score[truth].mean() > score[~truth].mean() + 0.5
    assert weighers.score(features) == pytest.approx(np.mean(scores, axis=0))
    assert weighers.logistic.weight[4] == 0


def test_genes_of_a_training_are_as_those_of_predictions():
    scores = ("coding", "start", "rbs", "upstream", "type")
    genes = {
        "start": [0, 90],
        "end": [60, 150],
        "strand": pa.array([1, -1], pa.int8()),
        "partial_left": [True, False],
        "partial_right": [False, False],
        "start_type": pa.array([3, 0], pa.uint8()),
        "rbs": [False, True],
        "translation_table": pa.array([11, 15], pa.int8()),
        "model": pa.array([20, 56], pa.int16()),
        "confidence": [0.5, 1.0],
        **{f"{name}_score": [1.0, 2.0] for name in scores},
    }
    columns = gene_columns(pa.table(genes), np.array([56]), np.zeros((2, 3), np.float32))
    assert columns.strand.tolist() == [1, -1]
    assert columns.start_type.tolist() == ["edge", "ATG"]
    assert columns.is_partial.tolist() == [True, False]
    assert columns.is_viral_model.tolist() == [False, True]
    assert columns.evidence.shape == (2, 3)
