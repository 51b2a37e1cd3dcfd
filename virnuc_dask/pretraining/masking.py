"""Texts → batches in which some tokens are hidden, to be guessed from the others.

Shares are BERT's (Devlin et al. 2019, https://arxiv.org/abs/1810.04805), which ESM-2 and DNABERT-2
kept: of the tokens that are to be guessed 80 % are shown as the mask, 10 % as a random token,
10 % as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError

_MASKED, _REPLACED = 0.8, 0.1

# A text may be cut by an eighth to fit a batch: no padding, and the same attention as in a run.
_SHORTEST_OF_LONGEST = 7 / 8
# Begin, one token, end.
_FEWEST_TOKENS = 3

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Language:
    """How texts become tokens, begin and end included, and what a hidden one may be shown as.

    ``ordinary`` are the ids of letters and words, of which some replace hidden tokens.
    """

    encode: Callable[[Sequence[str]], Sequence[IntArray]]
    mask: int
    ordinary: range


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """Texts of one length.

    ``shown`` has shape (texts, tokens); ``positions`` are the hidden tokens' places in it, all
    rows laid end to end, and ``targets`` what stood there, both of shape (hidden tokens,).
    """

    shown: IntArray
    positions: IntArray
    targets: IntArray


@dataclass(frozen=True, slots=True)
class MaskedTexts:
    """The batches of every round, each a function of the seed and the round's number alone.

    ``draw`` gives a fresh sample of texts; ``validation`` are texts that it never gives.
    """

    draw: Callable[[np.random.Generator], Sequence[str]]
    validation: Sequence[str]
    language: Language
    batch_tokens: int
    mask_share: float
    seed: tuple[int, int]

    def round(self, number: int) -> list[MaskedBatch]:
        """The batches of round ``number``, counted from 1, in random order.

        Raises
        ------
        BadInputError
            If no text that was drawn has a token.
        """
        rng = self._rng(number)
        batches = self._batches(self.draw(rng), rng)
        if not batches:
            raise BadInputError("no text to learn from was drawn: the training data is empty.")
        # Nearly empty batches would weigh as much as full ones.
        full = [batch for batch in batches if 2 * batch.shown.size >= self.batch_tokens]
        chosen = full or batches
        return [chosen[index] for index in rng.permutation(len(chosen)).tolist()]

    def of_validation(self) -> list[MaskedBatch]:
        """The batches of the validation texts, always the same."""
        return self._batches(self.validation, self._rng(0))

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng((*self.seed, number))

    def _batches(self, texts: Sequence[str], rng: np.random.Generator) -> list[MaskedBatch]:
        tokens = [t for t in self.language.encode(texts) if len(t) >= _FEWEST_TOKENS]
        return [
            hide(cut([tokens[row] for row in rows], rng), self.language, self.mask_share, rng)
            for rows in near_equal_batches([len(text) for text in tokens], self.batch_tokens)
        ]


def near_equal_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of texts of nearly one length, the longest first.

    Cut to its shortest text, a batch has at most ``max_tokens`` tokens, if that one has not more.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist()
    batches: list[list[int]] = []
    for index in order:
        longest = lengths[batches[-1][0]] if batches else 0
        is_near = batches and lengths[index] >= _SHORTEST_OF_LONGEST * longest
        if is_near and (len(batches[-1]) + 1) * lengths[index] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def cut(texts: Sequence[IntArray], rng: np.random.Generator) -> IntArray:
    """A run of each text, as long as the shortest, first and last token kept: a matrix."""
    length = min(map(len, texts))
    spare = np.array([len(text) - length for text in texts])
    starts = rng.integers(spare + 1).tolist()
    cuts = np.empty((len(texts), length), np.int64)
    for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
        cuts[row] = text[start : start + length]
        cuts[row, 0], cuts[row, -1] = text[0], text[-1]
    return cuts


def hide(
    tokens: IntArray, language: Language, share: float, rng: np.random.Generator
) -> MaskedBatch:
    """Hide ``share`` of each text's tokens, at least one, never the first and the last."""
    texts, length = tokens.shape
    hidden = max(1, round(share * (length - 2)))
    chosen = rng.random((texts, length - 2)).argpartition(hidden - 1, axis=1)[:, :hidden]
    positions = (np.sort(chosen) + 1 + length * np.arange(texts)[:, None]).ravel()
    shown = tokens.ravel().copy()
    targets = shown[positions]
    fate = rng.random(len(positions))
    shown[positions[fate < _MASKED]] = language.mask
    replaced = positions[(fate >= _MASKED) & (fate < _MASKED + _REPLACED)]
    shown[replaced] = rng.integers(language.ordinary.start, language.ordinary.stop, len(replaced))
    return MaskedBatch(shown.reshape(texts, length), positions, targets)


def rounds_ahead(
    make: Callable[[int], list[MaskedBatch]], first: int
) -> Generator[tuple[int, list[MaskedBatch]]]:
    """Yield every round from ``first`` on, with its number; the next one is made meanwhile.

    ``make`` is called in another thread, never twice at once. Close the iterator to end it.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="rounds") as pool:
        following = pool.submit(make, first)
        for number in count(first):
            batches = following.result()
            following = pool.submit(make, number + 1)
            yield number, batches
