"""Genes → frames of random windows, from which the transformers learn their language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from virnuc_dask.pretraining.genes import Gene, digest_of
from virnuc_dask.pretraining.windows import LONGEST_NT, SHORTEST_NT
from virnuc_dask.sequences.frames import Frame, find_frames

_VALIDATION_WINDOWS = 2_000


class WindowFrames:
    """Open frames of windows of genes, viral ones as often as all others; labels are not used.

    Parameters
    ----------
    training, validation
        Genes to draw from, and genes on which the loss is measured.
    windows
        Drawn for one round.
    """

    def __init__(
        self, training: Sequence[Gene], validation: Sequence[Gene], windows: int = 20_000
    ) -> None:
        self._pools = [[g.dna for g in training if g.is_virus == label] for label in (True, False)]
        self._windows = windows
        self.fingerprint = digest_of(training, windows, SHORTEST_NT, LONGEST_NT)
        pools = [[g.dna for g in validation if g.is_virus == label] for label in (True, False)]
        self.validation = _draw(pools, _VALIDATION_WINDOWS, np.random.default_rng(0))

    def draw(self, rng: np.random.Generator) -> list[Frame]:
        """The frames of fresh windows, in random order."""
        return _draw(self._pools, self._windows, rng)


def _draw(pools: Sequence[Sequence[str]], count: int, rng: np.random.Generator) -> list[Frame]:
    chunks = []
    for pool in pools:
        if pool:
            for index in rng.integers(len(pool), size=count // len(pools)).tolist():
                length = int(rng.integers(SHORTEST_NT, LONGEST_NT + 1))
                start = int(rng.integers(max(len(pool[index]) - length, 0) + 1))
                chunks.append(pool[index][start : start + length])
    frames = [frame for of_chunk in find_frames(chunks) for frame in of_chunk]
    return [frames[index] for index in rng.permutation(len(frames)).tolist()]
