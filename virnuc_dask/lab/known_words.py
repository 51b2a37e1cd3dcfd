"""Genes of known sides → how much more often groups of viruses have a word than groups of others.

A word counts once a group: a genus whose genomes were sequenced often knows no more than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from virnuc_dask.encoders.words import NEUTRAL, Pattern, Texts

_PRIOR = 0.5  # groups of each side
_MOST_LETTERS = 1 << 22  # whose words are in memory at a time

Counts = NDArray[np.uint16]  # (2, words of a pattern): groups of others, groups of viruses


def count(
    pattern: Pattern,
    texts: Sequence[str],
    groups: NDArray[Any],
    is_virus: NDArray[np.bool_],
    step: int = 1,
) -> Counts:
    """Count the groups of each side that have each word."""
    counts = np.zeros((2, pattern.words), np.uint16)
    _, group = np.unique(groups, return_inverse=True)
    side = is_virus.astype(np.int64)
    order = np.lexsort((group, side))
    last = np.full(pattern.words, -1, np.int64)
    for rows in _blocks(order, texts):
        words = Texts([texts[row] for row in rows]).words(pattern, step)
        _count(words.numbers, words.ends, group[rows], side[rows], last, counts)
    return counts


def log_odds(counts: NDArray[Any]) -> NDArray[np.float32]:
    """Natural-log odds of virus by word, for equally many words of both sides; 0 if never seen."""
    seen = np.flatnonzero(counts.any(axis=0))
    others, viruses = counts[:, seen].astype(np.float32)
    even = (counts[0].sum(dtype=np.int64) + _PRIOR) / (counts[1].sum(dtype=np.int64) + _PRIOR)
    odds = np.zeros(counts.shape[1], np.float32)
    odds[seen] = np.log((viruses + _PRIOR) / (others + _PRIOR) * np.float32(even))
    return odds


def pack_log_odds(log_odds: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """What `encoders.words.KnownWords` reads: four bits a word, half units from -3.5 to 3.5."""
    level = np.clip(np.round(log_odds * 2), -7, 7) + NEUTRAL
    bits = np.append(level, np.full(len(level) % 2, NEUTRAL))
    halves = bits.astype(np.uint8).reshape(-1, 2)
    packed: NDArray[np.uint8] = halves[:, 0] + 16 * halves[:, 1]
    return packed


def _blocks(rows: NDArray[np.int64], texts: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """The rows, so many at a time that their texts fit into memory."""
    letters = np.cumsum(np.fromiter((len(texts[row]) for row in rows), np.int64, len(rows)))
    yield from np.split(rows, np.flatnonzero(np.diff(letters // _MOST_LETTERS)) + 1)


@numba.njit(nogil=True)
def _count(
    numbers: NDArray[np.int64],
    ends: NDArray[np.int64],
    group: NDArray[np.int64],
    side: NDArray[np.int64],
    last: NDArray[np.int64],
    counts: Counts,
) -> None:
    """Count each word of texts, that come group by group, where its group has not been last."""
    for text in range(len(group)):
        key = 2 * group[text] + side[text]
        for at in range(ends[text], ends[text + 1]):
            word = numbers[at]
            if last[word] != key:
                last[word] = key
                counts[side[text], word] += 1
