"""Batches of one exact length: no padding, no mask, and the order of the texts kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Forward = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Token ids (batch, tokens), all texts of one length → embeddings (batch, dim)."""


def exact_length_batches(
    lengths: Sequence[int] | NDArray[np.int64], max_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of texts that share a length, at most ``max_tokens`` tokens together.

    A text longer than ``max_tokens`` is a batch of its own. The order depends on ``lengths``
    alone: the longest texts first, so that a device too small fails at once and the memory of
    the first batch serves all that follow; texts of one length as they came.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    changes = np.flatnonzero(np.diff(lengths[order])) + 1
    for group in np.split(order, changes) if len(order) else ():
        texts = max(1, max_tokens // max(1, int(lengths[group[0]])))
        for start in range(0, len(group), texts):
            yield group[start : start + texts]


def embed_in_batches(
    tokens: Sequence[NDArray[np.int64]], forward: Forward, dim: int, max_tokens: int
) -> NDArray[np.float32]:
    """Embed every text: (len(tokens), dim), float32, in the order of ``tokens``.

    A batch that does not fit the device's memory is halved and tried again.

    Raises
    ------
    torch.OutOfMemoryError
        If a single text does not fit.
    """
    embeddings = np.empty((len(tokens), dim), np.float32)
    for rows in exact_length_batches([len(text) for text in tokens], max_tokens):
        embeddings[rows] = _embed_or_halve(np.stack([tokens[row] for row in rows]), forward)
    return embeddings


def _embed_or_halve(batch: NDArray[np.int64], forward: Forward) -> NDArray[np.float32]:
    try:
        return forward(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # After the handler, not in it: the traceback would keep the failed batch's memory alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return np.concatenate(
        [_embed_or_halve(batch[:half], forward), _embed_or_halve(batch[half:], forward)]
    )
