"""The published classifier's architecture: one hidden layer over both embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from virnuc_dask.errors import ModelSetError

# On AMD processors MKL's products of fewer than 16 rows by small weights differ in the last bit
# from one number of threads to the next, whatever `MKL_CBWR` says.
_FEWEST_ROWS = 64


class Classifier(nn.Module):
    """Linear, batch norm, ReLU, dropout, linear: features (n, inputs) → logits (n, 2).

    Column 0 is `others`, column 1 is `virus`.
    """

    def __init__(self, inputs: int, hidden: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, 2)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of ``features``."""
        return self.output(self.dropout(torch.relu(self.norm(self.hidden(features)))))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax scores, shape (n, 2), always in fp32 on the CPU.

        The layer costs nothing beside the encoders; one fixed place makes its scores the same
        whatever device made the features.
        """
        missing = max(0, _FEWEST_ROWS - len(features))
        rows = np.pad(features, ((0, missing), (0, 0)))
        logits = self.forward(torch.from_numpy(rows))
        scores: NDArray[np.float32] = torch.softmax(logits, dim=1).numpy()[: len(features)]
        return scores


def load_classifier(path: Path, inputs: int, hidden: int) -> Classifier:
    """Read a classifier; `ModelSetError` if it is damaged or has not the sizes asked for."""
    with torch.device("meta"):  # no memory for sizes that the file does not have
        classifier = Classifier(inputs, hidden)
    try:
        tensors = {k: v.float() for k, v in load_file(path).items()}
        classifier.load_state_dict(tensors, assign=True)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelSetError(
            f"{path}: not a classifier of {inputs} → {hidden} → 2: {error}"
        ) from error
    return classifier.eval().requires_grad_(False)
