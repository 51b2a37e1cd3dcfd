"""Train the classifier of a model set on the features of labelled frames."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from virnuc_dask.lab.fitting.frame_features import FrameSet, Scaling
from virnuc_dask.lab.fitting.options import ClassifierRecipe
from virnuc_dask.lab.quality.figures import auroc
from virnuc_dask.modelsets.classifier import Classifier

_FRAMES_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training frames led to; losses are weighted by class."""

    number: int  # from 1
    loss: float
    validation_loss: float
    validation_auroc: float  # of chunks


@dataclass(frozen=True, slots=True)
class Fitted:
    """The classifier of the best epoch, and how it went. It takes standardised features."""

    classifier: Classifier
    best: Epoch
    history: tuple[Epoch, ...]
    device: str
    threads: int  # of torch


def fit_classifier(
    training: FrameSet,
    validation: FrameSet,
    recipe: ClassifierRecipe,
    device: str = "cpu",
    tell: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Train until the AUROC of the validation chunks has not risen for ``recipe.patience`` epochs.

    Both classes weigh the same in the loss, cross-entropy of the frames. The epoch with the highest
    AUROC is kept, among equal ones that with the lowest validation loss. The same frames, recipe,
    device and number of threads give the same weights.
    """
    with _reproducible(recipe.seed, device):
        learner = _Learner(training, recipe, device)
        history: list[Epoch] = []
        for number in range(1, recipe.epochs + 1):
            loss = learner.pass_over(training)
            history.append(Epoch(number, loss, *learner.measure(validation)))
            tell(history[-1])
            best = max(history, key=lambda epoch: (epoch.validation_auroc, -epoch.validation_loss))
            if best is history[-1]:
                weights = copy.deepcopy(learner.classifier.state_dict())
            elif number - best.number >= recipe.patience:
                break
        learner.classifier.load_state_dict(weights)
        classifier = learner.classifier.cpu().eval().requires_grad_(False)
    return Fitted(classifier, best, tuple(history), device, torch.get_num_threads())


class _Learner:
    """The classifier, its optimiser, and the weights of the classes."""

    def __init__(self, training: FrameSet, recipe: ClassifierRecipe, device: str) -> None:
        classifier = Classifier(training.features.shape[1], recipe.hidden, recipe.dropout)
        for layer in (classifier.hidden, classifier.output):
            nn.init.xavier_uniform_(layer.weight)
        self.classifier = classifier.to(device)
        self._optimizer = torch.optim.AdamW(
            classifier.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        frames = len(training.is_virus)
        counts = np.bincount(training.is_virus, minlength=2)
        self._weight = torch.tensor(frames / (2 * counts), dtype=torch.float32, device=device)
        self._batch = min(recipe.batch, frames)
        self._rng = np.random.default_rng(recipe.seed)
        self._device = device

    def pass_over(self, frames: FrameSet) -> float:
        """Learn from all frames once, in random order; the mean loss."""
        self.classifier.train()
        order = self._rng.permutation(len(frames.is_virus))
        # A rest that is smaller than a batch waits for another epoch.
        batches = order[: len(order) // self._batch * self._batch].reshape(-1, self._batch)
        losses = []
        for batch in batches:
            # Sorted: a memory map is read in one direction. The mean is not the weighted one of
            # cross_entropy, whose divisor changes from batch to batch.
            loss = self._losses(frames, np.sort(batch))[1].mean()
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    @torch.inference_mode()
    def measure(self, frames: FrameSet) -> tuple[float, float]:
        """The loss of ``frames``, and the AUROC of their chunks."""
        self.classifier.eval()
        scores, losses = [], []
        for start in range(0, len(frames.is_virus), _FRAMES_AT_ONCE):
            rows = np.arange(start, min(start + _FRAMES_AT_ONCE, len(frames.is_virus)))
            logits, of_rows = self._losses(frames, rows)
            losses.append(of_rows.double())
            scores.append(torch.softmax(logits.double(), dim=1).cpu().numpy())
        loss = float(torch.cat(losses).mean())
        return loss, chunk_auroc(np.concatenate(scores), frames)

    def _losses(self, frames: FrameSet, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Logits and losses of some frames."""
        features = torch.from_numpy(frames.values(rows).astype(np.float32)).to(self._device)
        labels = torch.from_numpy(frames.is_virus[rows].astype(np.int64)).to(self._device)
        logits = self.classifier(features)
        return logits, cross_entropy(logits, labels, self._weight, reduction="none")


def chunk_auroc(scores: NDArray[np.float64], frames: FrameSet) -> float:
    """AUROC of the chunks' scores, (1 + highest virus score - highest others score) / 2.

    Parameters
    ----------
    scores
        Of the frames, shape (frames, 2): others, virus.
    """
    starts = np.flatnonzero(np.diff(frames.chunk, prepend=-1))
    highest = np.maximum.reduceat(scores, starts)
    return auroc((1 + highest[:, 1] - highest[:, 0]) / 2, frames.is_virus[starts])


def folded(classifier: Classifier, scaling: Scaling) -> Classifier:
    """The same classifier for features as the encoders give them.

    Standardising is linear, so it goes into the first layer: W (x - m) / s + b is
    (W / s) x + (b - (W / s) m).
    """
    result = copy.deepcopy(classifier)
    weight = classifier.hidden.weight.detach().double().numpy() / scaling.deviation
    bias = classifier.hidden.bias.detach().double().numpy() - weight @ scaling.mean
    with torch.no_grad():
        result.hidden.weight.copy_(torch.from_numpy(weight))
        result.hidden.bias.copy_(torch.from_numpy(bias))
    return result


@contextmanager
def _reproducible(seed: int, device: str) -> Iterator[None]:
    """Fixed random numbers inside, and on a GPU only kernels that sum in a fixed order."""
    if device == "cuda":
        # What cuBLAS needs for it; read when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[0] if device == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(before)
