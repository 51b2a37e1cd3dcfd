import numpy as np

from virnuc_dask.lab.gene_classifier import learn, viral_logits
from virnuc_dask.lab.recipe import ClassifierSettings
from virnuc_dask.stages.predict import viral_logit


def test_it_takes_features_as_they_come_and_learns_from_what_has_a_chance():
    is_virus = np.arange(500) < 200
    features = np.random.default_rng(0).normal(size=(500, 3)) * [1, 100, 0.01] + [0, 1000, 0]
    features[:, 1] += 150 * is_virus
    features = features.astype(np.float32)
    spoilt = features.copy()
    spoilt[400:] = np.nan
    chance = np.where(np.arange(500) < 400, 1 / 400, 0)
    settings = ClassifierSettings(hidden=8, steps=60, batch=128)
    classifier = learn(spoilt, is_virus, chance, settings)
    logit = viral_logits(classifier, features)
    assert ((logit > 0) == is_virus).mean() > 0.7
    others, virus = classifier.score(features).T
    np.testing.assert_allclose(logit, viral_logit(virus, others), atol=1e-4)
