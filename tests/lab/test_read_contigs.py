import lightgbm
import numpy as np
import pytest

from virnuc_dask.lab.read_contigs import trees_of


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
