"""DNA that no organism has: shuffled, of the same composition, random, of low complexity.

All functions take and give windows as an array of base codes (0 to 3), shape (windows, length).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Windows = NDArray[np.uint8]

_PSEUDO_COUNT = 0.05
_LONGEST_UNIT = 6


def shuffled_bases(windows: Windows, rng: np.random.Generator) -> Windows:
    """Each window's bases in random order."""
    return rng.permuted(windows, axis=1)


def shuffled_codons(windows: Windows, rng: np.random.Generator) -> Windows:
    """Each window's codons, in its first frame, in random order; an open frame stays open."""
    count, length = windows.shape
    each = length // 3
    codons = windows[:, : 3 * each].reshape(count, each, 3)
    order = rng.permuted(np.tile(np.arange(each), (count, 1)), axis=1)
    mixed = np.take_along_axis(codons, order[:, :, None], axis=1).reshape(count, 3 * each)
    return np.concatenate([mixed, windows[:, mixed.shape[1] :]], axis=1)


def same_dinucleotides(windows: Windows, rng: np.random.Generator) -> Windows:
    """A Markov chain of order one with each window's own transitions."""
    count, length = windows.shape
    transitions = np.full((count, 4, 4), _PSEUDO_COUNT)
    rows = np.repeat(np.arange(count), length - 1)
    np.add.at(transitions, (rows, windows[:, :-1].ravel(), windows[:, 1:].ravel()), 1)
    cumulative = np.cumsum(transitions / transitions.sum(axis=2, keepdims=True), axis=2)
    made = np.empty_like(windows)
    made[:, 0] = windows[:, 0]
    chance = rng.random((length, count, 1))
    every = np.arange(count)
    for at in range(1, length):
        made[:, at] = (chance[at] > cumulative[every, made[:, at - 1], :3]).sum(axis=1)
    return made


def random_bases(windows: Windows, rng: np.random.Generator) -> Windows:
    """Independent bases of a GC content drawn for each window, between 20 and 80 %."""
    gc = rng.uniform(0.2, 0.8, (len(windows), 1))
    strong = rng.random(windows.shape) < gc
    second = rng.random(windows.shape) < 0.5
    return np.where(strong, np.where(second, 1, 2), np.where(second, 0, 3)).astype(np.uint8)


def repeats(windows: Windows, rng: np.random.Generator) -> Windows:
    """A unit of one to six bases of each window, repeated, one base in twenty its own."""
    units = rng.integers(1, _LONGEST_UNIT + 1, (len(windows), 1))
    places = np.arange(windows.shape[1]) % units
    repeated = np.take_along_axis(windows, places, axis=1)
    return np.where(rng.random(windows.shape) < 0.05, windows, repeated)


KINDS = (shuffled_bases, same_dinucleotides, shuffled_codons, random_bases, repeats)
