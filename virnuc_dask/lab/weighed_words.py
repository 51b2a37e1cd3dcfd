"""Peptides of known classes → the weights of their short words, for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from virnuc_dask.encoders.words import CLASSES, PATTERNS, Texts
from virnuc_dask.lab.chances import draw_rows
from virnuc_dask.lab.recipe import WordSettings

A_VIRUS = len(CLASSES)  # the target of a peptide of a virus of unknown class
_TARGETS = {
    **{name: number for number, name in enumerate(CLASSES)},
    "viral_marker": A_VIRUS,
    "plasmid": CLASSES.index("prokaryote"),
    "other_marker": CLASSES.index("prokaryote"),
    "transcript": CLASSES.index("eukaryote"),
}
SHORTEST = 20  # residues of a peptide that is learnt from

_CLASSES = len(CLASSES)
_VIRAL = 2  # the first of CLASSES
_TYPICAL, _LONGEST = 200, 600  # residues; see encoders.words
_LEAST_CROPPED = 40  # residues
_BLOCK = 10_000  # peptides whose words are in memory at a time
_BIAS_RATE = 0.02  # of the words' rate
_FIRST_SQUARE = 1e-3
_WIDEST = 0.9999  # share of a class's weights that eight bits hold without clipping

Floats = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WeighedWords:
    """A weight of every word for each class, and the classes' biases."""

    weights: Floats  # (words of all patterns, classes)
    bias: Floats

    def tables(self) -> dict[str, NDArray[Any]]:
        """What `encoders.words.PeptideWords` reads: weights in eight bits, a scale a class."""
        scale = np.quantile(np.abs(self.weights), _WIDEST, axis=0).astype(np.float32) / 127
        scale = np.maximum(scale, np.float32(1e-6))
        levels = np.clip(np.round(self.weights / scale), -127, 127).astype(np.int8)
        return {"weights": levels, "scale": scale, "bias": self.bias}


class Lesson(NamedTuple):
    """Words of peptides, laid end to end, pattern by pattern."""

    numbers: NDArray[np.int32]  # rows of the weights
    ends: IntArray  # (patterns, peptides + 1), in ``numbers``
    root: Floats  # of each peptide's length, over that of a typical one
    target: IntArray


def targets(kinds: NDArray[np.str_]) -> IntArray:
    """What peptides of these kinds teach: a class's number, or `A_VIRUS`; -1: nothing."""
    names, place = np.unique(kinds, return_inverse=True)
    return np.array([_TARGETS.get(name, -1) for name in names])[place]


def learn(
    peptides: Sequence[str],
    target: IntArray,
    chance: NDArray[np.float64],
    settings: WordSettings,
    seed: int = 0,
) -> WeighedWords:
    """Learn weights from peptides, drawn with ``chance``; the same seed gives the same weights.

    A softmax regression on the mean of a peptide's words of each pattern, learnt one peptide at a
    time with AdaGrad (Duchi, Hazan & Singer, JMLR 12 (2011), 2121-2159). Some peptides are cropped,
    since genes of contigs are often cut, and some words left out, since a new virus has few of the
    words of those that are known.
    """
    rng = np.random.default_rng(seed)
    state = np.zeros((sum(pattern.words for pattern in PATTERNS), 2 * _CLASSES), np.float32)
    state[:, _CLASSES:] = _FIRST_SQUARE
    bias = np.zeros(_CLASSES, np.float32)
    upto = np.cumsum(chance)
    for rate in np.linspace(settings.first_rate, settings.last_rate, settings.rounds):
        for first in range(0, settings.draws, _BLOCK):
            many = min(_BLOCK, settings.draws - first)
            rows = draw_rows(upto, many, rng)
            sizes, places = _sizes(rng.random(many), settings), rng.random(many).tolist()
            crops = zip(rows.tolist(), sizes, places, strict=True)
            texts = [_crop(peptides[row], size, place) for row, size, place in crops]
            step(lesson(texts, target[rows]), state, bias, rate, settings, rng)
    return WeighedWords(np.ascontiguousarray(state[:, :_CLASSES]), bias)


def lesson(peptides: Sequence[str], target: IntArray) -> Lesson:
    """Look up the words of ``peptides``."""
    texts = Texts(peptides)
    numbers, ends = [], []
    row, before = 0, 0
    for pattern in PATTERNS:
        words = texts.words(pattern)
        numbers.append((words.numbers + row).astype(np.int32))
        ends.append(words.ends + before)
        row, before = row + pattern.words, before + len(words.numbers)
    length = np.fromiter(map(len, peptides), np.float32, len(peptides))
    root = np.sqrt(np.minimum(length, _LONGEST) / _TYPICAL).astype(np.float32)
    return Lesson(np.concatenate(numbers), np.stack(ends), root, target)


def step(
    lesson: Lesson,
    state: Floats,
    bias: Floats,
    rate: float,
    settings: WordSettings,
    rng: np.random.Generator,
) -> None:
    """Learn from each peptide of a lesson in turn; changes ``state`` and ``bias``.

    ``state`` has the weights, then as many sums of squared gradients.
    """
    coin = np.uint64(rng.integers(1, 1 << 63))
    dropout = np.uint64(settings.word_dropout * 65536)
    pace = _Pace(np.float32(rate), np.float32(settings.label_smoothing), dropout, coin)
    _step(lesson, state, bias, pace)


def _sizes(drawn: NDArray[np.float64], settings: WordSettings) -> list[float]:
    """How much of each peptide is kept: some are cropped, to no less than the shortest crop."""
    least, cropped = settings.shortest_crop, settings.cropped
    share = np.where(drawn < cropped, least + (1 - least) * drawn / max(cropped, 1e-9), 1)
    return list(share.tolist())


def _crop(peptide: str, size: float, place: float) -> str:
    """A share of a peptide, from a place on; never more residues than are scored."""
    length = len(peptide)
    if length > _LEAST_CROPPED:
        length = max(SHORTEST, int(length * size))
    length = min(length, _LONGEST)
    start = math.floor(place * (len(peptide) - length + 1))
    return peptide[start : start + length]


class _Pace(NamedTuple):
    rate: np.float32
    smooth: np.float32
    dropout: np.uint64  # of 65,536
    coin: np.uint64  # of random bits the first


@numba.njit(fastmath=True, nogil=True)
def _step(lesson: Lesson, state: Floats, bias: Floats, pace: _Pace) -> None:
    share, error, total = np.empty((3, _CLASSES), np.float32)
    kept = np.empty(len(lesson.numbers), np.int32)
    count = np.zeros(len(lesson.ends) + 1, np.int64)
    coin = pace.coin
    for text in range(len(lesson.root)):
        root = lesson.root[text]
        for c in range(_CLASSES):
            share[c] = bias[c]
        for pattern in range(len(lesson.ends)):
            many = count[pattern]
            total[:] = 0
            for at in range(lesson.ends[pattern, text], lesson.ends[pattern, text + 1]):
                # xorshift64: Marsaglia, Journal of Statistical Software 8 (2003), 14
                coin ^= coin << np.uint64(13)
                coin ^= coin >> np.uint64(7)
                coin ^= coin << np.uint64(17)
                if (coin & np.uint64(65535)) >= pace.dropout:
                    kept[many] = lesson.numbers[at]
                    for c in range(_CLASSES):
                        total[c] += state[lesson.numbers[at], c]
                    many += 1
            if many > count[pattern]:
                for c in range(_CLASSES):
                    share[c] += total[c] * root / np.float32(many - count[pattern])
            count[pattern + 1] = many
        _softmax(share)
        _errors(share, lesson.target[text], pace.smooth, error)
        for c in range(_CLASSES):
            bias[c] -= pace.rate * np.float32(_BIAS_RATE) * error[c]
        for pattern in range(len(lesson.ends)):
            _correct(state, kept[count[pattern] : count[pattern + 1]], root, error, pace.rate)


@numba.njit(fastmath=True)
def _correct(
    state: Floats, words: NDArray[np.int32], root: np.float32, error: Floats, rate: np.float32
) -> None:
    if not len(words):
        return
    pull = root / np.float32(len(words))
    for word in words:
        for c in range(_CLASSES):
            slope = error[c] * pull
            state[word, _CLASSES + c] += slope * slope
            state[word, c] -= rate * slope / np.sqrt(state[word, _CLASSES + c])


@numba.njit
def _softmax(logits: Floats) -> None:
    highest = logits.max()
    total = np.float32(0)
    for c in range(len(logits)):
        logits[c] = np.exp(logits[c] - highest)
        total += logits[c]
    for c in range(len(logits)):
        logits[c] /= total


@numba.njit
def _errors(share: Floats, target: int, smooth: np.float32, error: Floats) -> None:
    """Shares less what they should be; a virus of unknown class is what it is thought to be."""
    rest = smooth / np.float32(_CLASSES - 1)
    viral = share[:_VIRAL].sum()
    for c in range(_CLASSES):
        wanted = rest
        if target == _CLASSES and c < _VIRAL:
            wanted = (1 - (_CLASSES - _VIRAL) * rest) * share[c] / viral
        elif target == c:
            wanted = 1 - smooth
        error[c] = share[c] - wanted
