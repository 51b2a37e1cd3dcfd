from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.classifier import Classifier, load_classifier

INPUTS, HIDDEN = 6, 5


@pytest.fixture
def classifier() -> Classifier:
    """A classifier whose running mean and variance are not those of a new one."""
    torch.manual_seed(3)
    classifier = Classifier(INPUTS, HIDDEN)
    torch.nn.init.normal_(classifier.norm.running_mean)
    torch.nn.init.uniform_(classifier.norm.running_var, 0.5, 2)
    return classifier.eval().requires_grad_(False)


@pytest.fixture
def file(classifier: Classifier, tmp_path: Path) -> Path:
    path = tmp_path / "classifier.safetensors"
    save_file(classifier.state_dict(), path)
    return path


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(9, INPUTS)).astype(np.float32)


def test_scores_are_the_published_formulas(classifier, file, features):
    """Linear, batch norm with its running figures, ReLU, linear, softmax; in NumPy, fp64."""
    w = {name: tensor.double().numpy() for name, tensor in classifier.state_dict().items()}
    hidden = features.astype(np.float64) @ w["hidden.weight"].T + w["hidden.bias"]
    hidden = (hidden - w["norm.running_mean"]) / np.sqrt(w["norm.running_var"] + 1e-5)
    hidden = np.maximum(hidden * w["norm.weight"] + w["norm.bias"], 0)
    exponents = np.exp(hidden @ w["output.weight"].T + w["output.bias"])
    scores = load_classifier(file, INPUTS, HIDDEN).score(features)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, exponents / exponents.sum(1, keepdims=True), atol=1e-6)
    assert classifier.score(features[:0]).shape == (0, 2)


@pytest.mark.parametrize(("inputs", "hidden"), [(INPUTS + 1, HIDDEN), (INPUTS, HIDDEN + 1)])
def test_other_sizes_than_described_are_refused(file, inputs, hidden):
    with pytest.raises(ModelSetError, match=f"{file}: not a classifier of {inputs} → {hidden} → 2"):
        load_classifier(file, inputs, hidden)


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_a_file_that_is_no_classifier_is_refused(file, content):
    file.write_bytes(content or b"")
    if content is None:
        file.unlink()
    with pytest.raises(ModelSetError, match=str(file)):
        load_classifier(file, INPUTS, HIDDEN)
