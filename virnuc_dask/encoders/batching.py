"""Batches of one exact length: no padding, no mask, and the order of the texts kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
"""Token ids (batch, tokens), all texts of one length → embeddings (batch, dim), fp32."""


def texts_a_batch(length: int, max_tokens: int) -> int:
    """How many texts of ``length`` tokens a full batch has."""
    return max(1, max_tokens // max(1, length))


def exact_length_batches(
    lengths: Sequence[int] | NDArray[np.int64], max_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of texts that share a length, at most ``max_tokens`` tokens together.

    A text longer than ``max_tokens`` is a batch alone. The order depends on ``lengths``
    alone: the longest texts first, so that a device too small fails at once and the memory of
    the first batch serves all that follow; texts of one length as they came.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    changes = np.flatnonzero(np.diff(lengths[order])) + 1
    for group in np.split(order, changes) if len(order) else ():
        texts = texts_a_batch(int(lengths[group[0]]), max_tokens)
        for start in range(0, len(group), texts):
            yield group[start : start + texts]


def embed_in_batches(
    tokens: Sequence[NDArray[np.int64]],
    forward: Forward,
    dim: int,
    max_tokens: int,
    *,
    device: str = "cpu",
    fill: bool = False,
) -> NDArray[np.float32]:
    """Embed every text: (len(tokens), dim), float32, in the order of ``tokens``.

    All token ids go to the device at once and all embeddings come back at once: between two
    batches a GPU waits for nothing. A batch that does not fit the device's memory is halved and
    tried again. On a CPU each of torch's threads computes other batches. ``fill`` fills a length's
    last batch with copies of its last text where it had a full batch before: fewer shapes for a
    compiled ``forward``.

    Raises
    ------
    torch.OutOfMemoryError
        If a single text does not fit.
    """
    batches = list(exact_length_batches([len(text) for text in tokens], max_tokens))
    if not batches:
        return np.empty((0, dim), np.float32)
    order = np.concatenate(batches)
    ids = torch.from_numpy(np.concatenate([tokens[row] for row in order]))
    if device != "cpu":
        ids = ids.pin_memory().to(device, non_blocking=True)
    embedded = torch.empty((len(order), dim), dtype=torch.float32, device=device)
    sizes = [(len(rows), len(tokens[rows[0]])) for rows in batches]
    cut = _cut(ids, sizes, max_tokens if fill else None)
    places = torch.split(embedded, [texts for texts, _ in sizes])
    work = list(zip(cut, places, strict=True))

    def embed(batch: Tensor, place: Tensor) -> None:
        place.copy_(_embed_or_halve(batch, forward)[: len(place)])

    if device == "cpu":
        _share_among_threads(embed, work)
    else:
        for batch, place in work:
            embed(batch, place)
    embeddings = np.empty((len(order), dim), np.float32)
    embeddings[order] = embedded.cpu().numpy()
    return embeddings


def _cut(ids: Tensor, sizes: Sequence[tuple[int, int]], fill_to: int | None) -> Iterator[Tensor]:
    """Token ids, end to end → batches of so many texts and tokens a text, in order.

    With ``fill_to`` tokens, a batch that follows one of the same length is filled.
    """
    position = before = 0
    for texts, length in sizes:
        batch = ids[position : position + texts * length].view(texts, length)
        if fill_to is not None and length == before:
            lacking = texts_a_batch(length, fill_to) - texts
            batch = torch.cat([batch, batch[-1:].expand(lacking, -1)])
        yield batch
        position, before = position + texts * length, length


def _share_among_threads(
    embed: Callable[[Tensor, Tensor], None], work: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Call ``embed`` for each batch, one thread a batch.

    Where threads share a product, all wait for the slowest at the end of each, and what a batch
    gives can depend on their number.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if min(threads, len(work)) == 1:
            for batch, place in work:
                embed(batch, place)
        else:
            with ThreadPoolExecutor(threads, "batch", torch.set_num_threads, (1,)) as pool:
                for done in [pool.submit(embed, *each) for each in work]:
                    done.result()
    finally:
        torch.set_num_threads(threads)


def _embed_or_halve(batch: Tensor, forward: Forward) -> Tensor:
    try:
        return forward(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # After the handler, not in it: the traceback would keep the failed batch's memory alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return torch.cat([_embed_or_halve(part, forward) for part in (batch[:half], batch[half:])])
