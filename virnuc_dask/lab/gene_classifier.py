"""Features of genes → the classifier of genes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from virnuc_dask.lab.chances import draw_rows
from virnuc_dask.lab.recipe import ClassifierSettings
from virnuc_dask.modelsets.classifier import Classifier

_FIRST_RATE = 25  # of the highest one: 1 / so much
_LEAST_DEVIATION = 1e-6
_BLOCK = 1 << 16


def learn(
    features: NDArray[np.float32],
    is_virus: NDArray[np.bool_],
    chance: NDArray[np.float64],
    settings: ClassifierSettings,
    seed: int = 0,
) -> Classifier:
    """Learn from genes that are drawn with ``chance``; the same seed gives the same weights.

    The classifier standardises nothing: its first layer takes features as the encoders make them.
    """
    torch.manual_seed(seed)
    rows = np.flatnonzero(chance)
    mean, deviation = features[rows].mean(axis=0), features[rows].std(axis=0) + _LEAST_DEVIATION
    standard = torch.from_numpy((features[rows] - mean) / deviation)
    target = torch.from_numpy(is_virus[rows].astype(np.int64))
    classifier = Classifier(features.shape[1], settings.hidden)
    optimizer = torch.optim.Adam(classifier.parameters(), settings.rate / _FIRST_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.steps
    )
    upto = np.cumsum(chance[rows])
    rng = np.random.default_rng(seed)
    for _ in range(settings.steps):
        batch = torch.from_numpy(draw_rows(upto, settings.batch, rng))
        loss = nn.functional.cross_entropy(
            classifier(standard[batch]), target[batch], label_smoothing=settings.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    # Of a layer for standardised features one for the features themselves.
    with torch.no_grad():
        classifier.hidden.weight.div_(torch.from_numpy(deviation))
        classifier.hidden.bias.sub_(classifier.hidden.weight @ torch.from_numpy(mean))
    return classifier.eval().requires_grad_(False)


@torch.inference_mode()
def viral_logits(classifier: Classifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `stages.predict.viral_logit` makes of a classifier's scores."""
    blocks = range(0, len(features), _BLOCK)
    logits = [classifier(torch.from_numpy(features[b : b + _BLOCK])) for b in blocks]
    both = torch.cat([torch.zeros(0, 2), *logits])
    values: NDArray[np.float32] = (both[:, 1] - both[:, 0]).numpy()
    return values
