"""The n-gram tables and the classifier as one network, to be trained end to end."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, cross_entropy

from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES, mean_pool
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.training.windows import Samples

_SIZES = DNA_TABLES | PEPTIDE_TABLES


class NgramNetwork(nn.Module):
    """Tables of ``width`` values an n-gram, their means side by side, and the classifier."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.tables = nn.ParameterDict(
            {name: torch.randn(rows, width) for name, rows in _SIZES.items()}
        )
        self.classifier = Classifier(width * len(_SIZES), hidden, dropout)

    def forward(self, samples: Samples) -> Tensor:
        """Logits of the frames, shape (frames, 2)."""
        # In the encoders' order, which a ParameterDict does not keep: it sorts its names.
        tables = {name: self.tables[name] for name in _SIZES}
        logits: Tensor = self.classifier(mean_pool(tables, samples.bags))
        return logits


def chunk_scores(frame_scores: Tensor, samples: Samples) -> Tensor:
    """(1 + highest virus score - highest others score) / 2 over each chunk's frames, in [0, 1].

    ``frame_scores`` are the frames' virus scores, those of others being one minus them.
    """
    chunk = samples.chunk_of_frame
    zeros = frame_scores.new_zeros(len(samples))
    virus = zeros.scatter_reduce(0, chunk, frame_scores, "amax", include_self=False)
    others = zeros.scatter_reduce(0, chunk, 1 - frame_scores, "amax", include_self=False)
    return (1 + virus - others) / 2


def loss_of(logits: Tensor, samples: Samples) -> Tensor:
    """Cross entropy of the frames, plus that of the chunks' scores, which decide the calls."""
    frames = cross_entropy(logits, samples.labels[samples.chunk_of_frame])
    scores = chunk_scores(torch.softmax(logits, dim=1)[:, 1], samples)
    chunks = binary_cross_entropy(scores.clamp(1e-6, 1 - 1e-6), samples.labels.to(scores.dtype))
    return frames + chunks
