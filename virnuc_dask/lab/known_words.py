"""Genes of known sides → how much more often groups of viruses have a word than groups of others.

A word counts once a group, so that a genus whose genomes were sequenced a hundred times knows no
more than one. Groups are counted fold by fold, and a table without a fold is the sum of the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.encoders.words import Pattern, Texts, pack_log_odds

_PRIOR = 0.5  # groups of each side
_MOST_LETTERS = 1 << 24  # whose words are in memory at a time

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
    key = group[order] * 2 + side[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    for start, end in pairwise([*starts, len(order)]):
        rows = order[start:end]
        counts[side[rows[0]], _words(pattern, [texts[row] for row in rows], step)] += 1
    return counts


def log_odds(counts: NDArray[Any]) -> NDArray[np.float32]:
    """Natural-log odds of virus by word, for equally many words of both sides; 0 if never seen."""
    seen = np.flatnonzero(counts.any(axis=0))
    others, viruses = counts[:, seen].astype(np.float32)
    even = (counts[0].sum(dtype=np.int64) + _PRIOR) / (counts[1].sum(dtype=np.int64) + _PRIOR)
    odds = np.zeros(counts.shape[1], np.float32)
    odds[seen] = np.log((viruses + _PRIOR) / (others + _PRIOR) * np.float32(even))
    return odds


def table(counts: NDArray[Any]) -> NDArray[np.uint8]:
    """What `encoders.words.KnownWords` reads."""
    return pack_log_odds(log_odds(counts))


def _words(pattern: Pattern, texts: list[str], step: int) -> NDArray[np.int64]:
    """Every word that some of the texts have, once."""
    found = [np.zeros(0, np.int64)]
    first, letters = 0, 0
    for number, text in enumerate(texts, 1):
        letters += len(text)
        if letters > _MOST_LETTERS or number == len(texts):
            found.append(np.unique(Texts(texts[first:number]).words(pattern, step).numbers))
            first, letters = number, 0
    return np.unique(np.concatenate(found))
