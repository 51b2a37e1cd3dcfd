import numpy as np
import pytest
import torch

from virnuc_dask.lab.gene_classifier import learn, viral_logits
from virnuc_dask.lab.recipe import ClassifierSettings
from virnuc_dask.stages.predict import viral_logit

SETTINGS = ClassifierSettings(hidden=8, steps=60, batch=128)


@pytest.fixture(scope="module")
def genes():
    rng = np.random.default_rng(0)
    is_virus = np.arange(500) < 200
    features = rng.normal(size=(500, 3)).astype(np.float32) * [1, 100, 0.01] + [0, 1000, 0]
    features[:, 1] += 150 * is_virus
    return features.astype(np.float32), is_virus


@pytest.fixture(scope="module")
def classifier(genes):
    return learn(*genes, np.full(500, 1 / 500), SETTINGS)


def test_it_takes_features_as_they_come(genes, classifier):
    features, is_virus = genes
    logit = viral_logits(classifier, features)
    assert ((logit > 0) == is_virus).mean() > 0.7


def test_its_logits_are_those_of_a_run(genes, classifier):
    others, virus = classifier.score(genes[0]).T
    np.testing.assert_allclose(
        viral_logits(classifier, genes[0]), viral_logit(virus, others), atol=1e-4
    )


def test_what_has_no_chance_is_not_learnt_from(genes):
    features, is_virus = genes
    spoilt = features.copy()
    spoilt[400:] = np.nan
    chance = np.where(np.arange(500) < 400, 1 / 400, 0)
    assert np.isfinite(viral_logits(learn(spoilt, is_virus, chance, SETTINGS), features)).all()


def test_the_same_seed_learns_the_same(genes, classifier):
    again = learn(*genes, np.full(500, 1 / 500), SETTINGS)
    ours, theirs = classifier.state_dict(), again.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
