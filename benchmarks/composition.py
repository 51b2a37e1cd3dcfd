"""A baseline: how far the composition of a chunk tells viruses apart, without an encoder.

156 values a chunk go into gradient boosting: the shares of the 4-mers, a 4-mer and its reverse
complement counted as one, and the shares of the residues, the mean over the chunk's open frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from virnuc_dask.encoders.ngrams import BASES, RESIDUES
from virnuc_dask.pretraining.windows import SHORTEST_NT, Codes, Ints, WindowSource
from virnuc_dask.quality.figures import Flags, Floats, auroc
from virnuc_dask.sequences.frames import find_frames

_OTHER = 255
_BLOCK = 2_000  # chunks counted at once
_WINDOWS_OF_A_LENGTH = 1_000
_MOST_TREES = 400
_LEARNING_RATE = 0.1

FOUR_MERS = tuple("".join(letters) for letters in product(BASES, repeat=4))
_REVERSED = [four.translate(str.maketrans("ACGT", "TGCA"))[::-1] for four in FOUR_MERS]
CANONICAL = tuple(
    four for four, reverse in zip(FOUR_MERS, _REVERSED, strict=True) if four <= reverse
)
_PLACE = [CANONICAL.index(min(pair)) for pair in zip(FOUR_MERS, _REVERSED, strict=True)]
_FOLD = np.eye(len(CANONICAL))[_PLACE]
WIDTH = len(CANONICAL) + len(RESIDUES)


class GeneWindows(WindowSource):
    """Windows as the encoders are trained on, unmutated and without noise."""

    def codes(self, count: int, length: int, rng: np.random.Generator) -> tuple[Codes, Ints]:
        """About ``count`` windows as base codes, and their labels (1: virus)."""
        return self._real(count, length, rng)

    def dna(self, count: int, rng: np.random.Generator) -> tuple[list[str], Flags]:
        """About ``count`` windows of one random length, and which of them are viral."""
        length = int(rng.integers(SHORTEST_NT, self._longest_nt + 1))
        codes, labels = self.codes(count, length, rng)
        letters = np.frombuffer(BASES.encode(), np.uint8)[codes]
        return [window.tobytes().decode() for window in letters], labels == 1


@dataclass(frozen=True, slots=True)
class CompositionClassifier:
    """Gradient boosting over `composition`; ``trees`` are those that validation chose."""

    model: HistGradientBoostingClassifier
    trees: int
    validation_auroc: Mapping[int, float]  # by chunk length

    def score(self, chunks: Sequence[str]) -> Floats:
        """The probability of a virus; NaN for a chunk without an open frame."""
        values = composition(chunks)
        scored = ~np.isnan(values).any(axis=1)
        scores = np.full(len(chunks), np.nan)
        stages = self.model.staged_predict_proba(values[scored])
        scores[scored] = next(islice(stages, self.trees - 1, None))[:, 1]
        return scores


def train_composition(
    source: GeneWindows,
    validation: Mapping[int, tuple[Sequence[str], Flags]],
    windows: int,
    seed: int,
) -> CompositionClassifier:
    """Train on ``windows`` windows; the number of trees is the best on validation chunks.

    Parameters
    ----------
    validation
        Chunks and which of them are viral, by chunk length.
    """
    rng = np.random.default_rng(seed)
    draws = [
        source.dna(min(_WINDOWS_OF_A_LENGTH, windows), rng)
        for _ in range(-(-windows // _WINDOWS_OF_A_LENGTH))
    ]
    values = np.concatenate([composition(drawn) for drawn, _ in draws])
    is_virus = np.concatenate([labels for _, labels in draws])
    scored = ~np.isnan(values).any(axis=1)
    model = HistGradientBoostingClassifier(
        learning_rate=_LEARNING_RATE, max_iter=_MOST_TREES, early_stopping=False, random_state=seed
    )
    model.fit(values[scored], is_virus[scored])
    by_trees = {
        length: _aurocs_by_trees(model, *chunks) for length, chunks in sorted(validation.items())
    }
    best = int(np.argmax(np.mean(list(by_trees.values()), axis=0)))
    chosen = {length: round(float(values[best]), 6) for length, values in by_trees.items()}
    return CompositionClassifier(model, best + 1, chosen)


def composition(chunks: Sequence[str]) -> Floats:
    """The composition of chunks.

    Returns
    -------
    array of float
        Shape (chunks, `WIDTH`): shares of the `CANONICAL` 4-mers among those without an ambiguous
        base, then of `RESIDUES`. NaN throughout for a chunk without an open frame.
    """
    values = np.full((len(chunks), WIDTH), np.nan)
    for start in range(0, len(chunks), _BLOCK):
        block = chunks[start : start + _BLOCK]
        residues = _residue_shares(block)
        has_frame = ~np.isnan(residues[:, 0])
        both = np.hstack([_four_mer_shares(block), residues])
        values[start : start + _BLOCK][has_frame] = both[has_frame]
    return values


def _four_mer_shares(chunks: Sequence[str]) -> Floats:
    codes, text = _laid_out(chunks, BASES)
    number = np.zeros(max(len(codes) - 3, 0), np.int64)
    clear = np.ones(len(number), np.bool_)
    for shift in range(4):
        letters = codes[shift : shift + len(number)]
        number = 4 * number + letters
        clear &= letters != _OTHER
    counts = _count(text[: len(number)][clear], number[clear], len(chunks), len(FOUR_MERS))
    return _shares(counts @ _FOLD)


def _residue_shares(chunks: Sequence[str]) -> Floats:
    """Means over the open frames; NaN without one."""
    found = find_frames(chunks)
    frames = np.array([len(of_chunk) for of_chunk in found])
    peptides = [frame.peptide for of_chunk in found for frame in of_chunk]
    codes, text = _laid_out(peptides, RESIDUES)
    clear = codes != _OTHER
    shares = _shares(
        _count(text[clear], codes[clear].astype(np.int64), len(peptides), len(RESIDUES))
    )
    sums = np.zeros((len(chunks), len(RESIDUES)))
    np.add.at(sums, np.repeat(np.arange(len(chunks)), frames), shares)
    return np.where(frames[:, None] > 0, sums / np.maximum(frames, 1)[:, None], np.nan)


def _laid_out(texts: Sequence[str], alphabet: str) -> tuple[Codes, Ints]:
    """Places in ``alphabet`` of all letters, a border after each text, and each letter's text."""
    code = np.full(256, _OTHER, np.uint8)
    for number, letter in enumerate(alphabet):
        code[[ord(letter), ord(letter.lower())]] = number
    joined = "".join(f"{text}\n" for text in texts).encode("ascii")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    return code[np.frombuffer(joined, np.uint8)], np.repeat(np.arange(len(texts)), lengths)


def _count(rows: Ints, columns: Ints, height: int, width: int) -> Ints:
    cells = np.bincount(rows * width + columns, minlength=height * width)
    return cells.reshape(height, width)


def _shares(counts: NDArray[np.generic]) -> Floats:
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _aurocs_by_trees(
    model: HistGradientBoostingClassifier, chunks: Sequence[str], is_virus: Flags
) -> list[float]:
    values = composition(chunks)
    scored = ~np.isnan(values).any(axis=1)
    stages = model.staged_predict_proba(values[scored])
    return [auroc(scores[:, 1], is_virus[scored]) for scores in stages]
