"""The n-gram tables and the classifier as one network, to be trained end to end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, cross_entropy

from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES, mean_pool
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.pretraining.windows import Samples

SIZES = DNA_TABLES | PEPTIDE_TABLES


class NgramNetwork(nn.Module):
    """Tables of ``width`` values an n-gram, their means side by side, and the classifier.

    ``spread`` is the standard deviation of the tables' first values: small, so that an n-gram that
    training hardly meets adds nothing.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0, spread: float = 1.0) -> None:
        super().__init__()
        self.tables = nn.ParameterDict(
            {name: spread * torch.randn(rows, width) for name, rows in SIZES.items()}
        )
        self.classifier = Classifier(width * len(SIZES), hidden, dropout)

    def forward(self, samples: Samples) -> Tensor:
        """Logits of the frames, shape (frames, 2)."""
        # In the encoders' order, which a ParameterDict does not keep: it sorts its names.
        tables = {name: self.tables[name] for name in SIZES}
        logits: Tensor = self.classifier(mean_pool(tables, samples.bags))
        return logits


@torch.no_grad()
def merge(members: Sequence[NgramNetwork]) -> NgramNetwork:
    """One network whose logits are the means of the members'.

    Their tables stand side by side, their hidden layers, too; between the tables of one member and
    the hidden layer of another all weights are zero.
    """
    width = members[0].tables["codons"].shape[1]
    hidden = members[0].classifier.hidden.out_features
    merged = NgramNetwork(width * len(members), hidden * len(members)).eval()
    for name in SIZES:
        merged.tables[name].copy_(torch.cat([member.tables[name] for member in members], dim=1))
    layer = torch.zeros(len(members), hidden, len(SIZES), len(members), width)
    for number, member in enumerate(members):
        weight = member.classifier.hidden.weight.view(hidden, len(SIZES), width)
        layer[number, :, :, number] = weight
    classifier = merged.classifier
    classifier.hidden.weight.copy_(layer.reshape(hidden * len(members), -1))
    classifier.hidden.bias.copy_(torch.cat([m.classifier.hidden.bias for m in members]))
    norms = [member.classifier.norm.state_dict() for member in members]
    for name, value in classifier.norm.state_dict().items():
        value.copy_(torch.cat([n[name] for n in norms]) if value.ndim else norms[0][name])
    output = torch.cat([m.classifier.output.weight for m in members], dim=1) / len(members)
    classifier.output.weight.copy_(output)
    biases = torch.stack([member.classifier.output.bias for member in members])
    classifier.output.bias.copy_(biases.mean(dim=0))
    return merged


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
