import dataclasses

import numpy as np
import pytest
import torch

from virnuc_dask.lab.fitting.fit_classifier import chunk_auroc, fit_classifier, folded
from virnuc_dask.lab.fitting.frame_features import FrameSet, Scaling
from virnuc_dask.lab.fitting.options import ClassifierRecipe
from virnuc_dask.modelsets.classifier import Classifier

RECIPE = ClassifierRecipe(hidden=8, epochs=12, patience=3, batch=32, learning_rate=1e-2)
DIM = 6


def frames(count, seed, apart=2.0, viral=0.5):
    """Two clouds of features ``apart``; two frames a chunk."""
    rng = np.random.default_rng(seed)
    chunk = np.arange(count) // 2
    is_virus = (rng.random(count // 2 + 1) < viral)[chunk]
    features = rng.normal(size=(count, DIM)) + apart * is_virus[:, None] / np.sqrt(DIM)
    return FrameSet(features.astype(np.float16), is_virus, chunk, chunk)


def scores_of(classifier, part):
    with torch.inference_mode():
        logits = classifier(torch.from_numpy(np.asarray(part.features, np.float32)))
    return torch.softmax(logits.double(), dim=1).numpy()


def test_a_rare_class_weighs_as_much_as_a_frequent_one():
    fitted = fit_classifier(frames(2_000, 1, viral=0.1), frames(600, 2, viral=0.1), RECIPE)
    test = frames(2_000, 3, viral=0.5)
    called = scores_of(fitted.classifier, test)[:, 1] > 0.5
    assert called[test.is_virus].mean() == pytest.approx(1 - called[~test.is_virus].mean(), abs=0.1)


def test_the_best_epoch_of_validation_is_kept_and_patience_ends_it():
    training, validation = frames(200, 1), frames(200, 2)
    recipe = dataclasses.replace(RECIPE, epochs=60)
    fitted = fit_classifier(training, validation, recipe)
    aurocs = [epoch.validation_auroc for epoch in fitted.history]
    assert fitted.best.validation_auroc == max(aurocs)
    assert fitted.best.number < len(aurocs) < recipe.epochs
    assert len(aurocs) == fitted.best.number + recipe.patience
    # The weights are that epoch's, not the last one's.
    found = chunk_auroc(scores_of(fitted.classifier, validation), validation)
    assert found == pytest.approx(fitted.best.validation_auroc, abs=1e-9)
    assert aurocs[-1] < max(aurocs)


def test_standardising_folds_into_the_first_layer():
    rng = np.random.default_rng(0)
    scaling = Scaling(rng.normal(size=DIM) * 50, np.exp(rng.normal(size=DIM) * 2))
    classifier = Classifier(DIM, hidden=8).eval()
    raw = scaling.mean + scaling.deviation * rng.normal(size=(40, DIM))
    standard = (raw - scaling.mean) / scaling.deviation
    expected = classifier.score(standard.astype(np.float32))
    found = folded(classifier, scaling).score(raw.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)
