"""A gene as what its words say: how viral its short words are, and which long words are known.

*Weighed words* are patterns of three to seven residues, in the twenty letters or in reduced
alphabets. Each has a weight for each class of organism; a peptide's score for a class is the mean
weight of its words of each pattern, summed, times the root of its length: a linear classifier of
peptides.

*Known words* are six letters long and so many that most are in few genomes. A table holds for each
how much more often groups of viruses have it than groups of others, as a log-odds in half units,
four bits a word. A text's embedding has their sum over the root of their number, and the shares
of words that speak for a virus and for something else.

Nothing else of a gene is looked at. Codon usage and the frequencies of bases would tell more
about the genomes that a model has seen, and mislead about prophages, which have their host's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.lookup import RESIDUES, LookedUp

CLASSES = ("phage", "eukaryotic_virus", "prokaryote", "eukaryote")
KNOWN_VALUES = ("known", "known_viral", "known_other")

_TYPICAL_RESIDUES = 200  # a peptide of so many has a length of 1
_MOST_RESIDUES = 600  # a longer one is scored as if it had so many
_PRIOR_WORDS = 10  # added to a text's words: few words say little
_SPEAKS = 2  # half units of log-odds from which a word speaks for its side
NEUTRAL = 8  # the four bits of a log-odds of 0
_BORDER = 18 * "\n"


class Alphabet(NamedTuple):
    """Letters that count as one, by group."""

    groups: tuple[str, ...]

    @classmethod
    def of(cls, groups: str) -> Self:
        """Groups with a blank between them."""
        return cls(tuple(groups.split()))

    def codes(self, others: int) -> NDArray[np.uint8]:
        """The group's number of each ASCII letter; ``others`` for any letter in none."""
        code = np.full(256, others, np.uint8)
        for number, letters in enumerate(self.groups):
            for letter in letters:
                code[ord(letter)] = code[ord(letter.lower())] = number
        return code


TWENTY = Alphabet(tuple(RESIDUES))
FIFTEEN = Alphabet.of("A C D E FY G H IV KR LM N P Q ST W")
TEN = Alphabet.of("A C DE FWY G HNQ ILMV KR P ST")
SIX = Alphabet.of("AGPST C DENQ FWY HKR ILMV")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Words of the residues at these places, from each residue on."""

    alphabet: Alphabet
    places: tuple[int, ...]

    @property
    def words(self) -> int:
        """How many words there are."""
        return int(len(self.alphabet.groups) ** len(self.places))


PATTERNS = (
    Pattern(TWENTY, (0, 1, 2)),
    Pattern(TEN, (0, 1, 2, 3, 4)),
    *(Pattern(TWENTY, (0, gap)) for gap in range(1, 9)),
    Pattern(TEN, (0, 1, 3, 4, 6)),
    Pattern(FIFTEEN, (0, 1, 2, 3)),
    Pattern(FIFTEEN, (0, 1, 4, 5)),
    Pattern(SIX, (0, 1, 2, 3, 4, 5, 6)),
)
KNOWN_PEPTIDE = Pattern(FIFTEEN, (0, 1, 2, 3, 4, 5))
# Six codons, of each the first two bases: what the third one changes is mostly not the residue.
KNOWN_DNA = Pattern(Alphabet.of("T C A G"), (0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16))


@dataclass(frozen=True, slots=True)
class Words:
    """Words of several texts, int32: text i has ``numbers[ends[i]:ends[i + 1]]``."""

    numbers: NDArray[np.int32]
    ends: NDArray[np.int32]


class Texts:
    """Texts laid end to end, read in one alphabet after another.

    Each begins at a multiple of three, after a border that is longer than any word: a word that
    runs over the end of its text has a letter of the border.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        joined = "".join([text + _BORDER[len(text) % 3 :] for text in texts]) + _BORDER
        self._letters = joined.encode("ascii", "replace")
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        room = lengths + len(_BORDER) - lengths % 3
        self._starts = np.concatenate([[0], np.cumsum(room)])
        self._read: dict[Alphabet, tuple[NDArray[np.int32], NDArray[np.bool_]]] = {}

    def words(self, pattern: Pattern, step: int = 1) -> Words:
        """Words of ``pattern`` in each text, from every letter on, or every third (``step``)."""
        codes, is_other = self._codes(pattern.alphabet)
        base, last = len(pattern.alphabet.groups), int(self._starts[-1])
        numbers = codes[:last:step].copy()
        invalid = is_other[:last:step].copy()
        for place in pattern.places[1:]:
            numbers *= base
            numbers += codes[place : place + last : step]
            invalid |= is_other[place : place + last : step]
        starts = self._starts // step
        left_out = np.searchsorted(np.flatnonzero(invalid), starts)
        return Words(numbers[~invalid], (starts - left_out).astype(np.int32))

    def _codes(self, alphabet: Alphabet) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The number of each letter's group, and whether it is in none."""
        if alphabet not in self._read:
            groups = len(alphabet.groups)
            read = self._letters.translate(alphabet.codes(groups).tobytes())
            codes = np.frombuffer(read, np.uint8)
            self._read[alphabet] = codes.astype(np.int32), codes == groups
        return self._read[alphabet]


class KnownWords:
    """Four bits of log-odds for each word of a pattern."""

    def __init__(self, pattern: Pattern, table: Tensor, step: int = 1) -> None:
        if table.dtype != torch.uint8 or table.shape != ((pattern.words + 1) // 2,):
            raise ValueError(f"{tuple(table.shape)} bytes for {pattern.words} words")
        self.pattern, self.step = pattern, step
        self.table = table.numpy()

    def values(self, texts: Texts) -> NDArray[np.float32]:
        """`KNOWN_VALUES` of each text, shape (texts, 3)."""
        words = texts.words(self.pattern, self.step)
        packed = self.table[words.numbers >> 1]
        level = (packed >> ((words.numbers & 1) << 2).astype(np.uint8)) & 15
        count = np.diff(words.ends) + _PRIOR_WORDS
        columns = [
            (_sums(level, words.ends) - NEUTRAL * np.diff(words.ends)) / 2 / np.sqrt(count),
            _sums(level >= NEUTRAL + _SPEAKS, words.ends) / count,
            _sums(level <= NEUTRAL - _SPEAKS, words.ends) / count,
        ]
        return np.stack(columns, axis=1).astype(np.float32)


def length_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Natural logarithm of each text's letters over `_TYPICAL_RESIDUES`, at least 1 letter."""
    letters = np.fromiter(map(len, texts), np.float32, len(texts))
    return np.log(np.maximum(letters, 1) / _TYPICAL_RESIDUES)


class DnaWords(LookedUp):
    """A gene's DNA, in its own phase: its known words of six codons without their third bases."""

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        self._known = KnownWords(KNOWN_DNA, tables["known"], step=3)
        self.weight_bytes = self._known.table.nbytes
        self.dim = len(KNOWN_VALUES)

    @classmethod
    def of(cls, tables: Mapping[str, Tensor], spec: EncoderSpec, placement: Placement) -> Self:
        """The encoder with these tables, on the CPU wherever others compute."""
        return cls(tables)

    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._known.values(Texts(texts))


class PeptideWords(LookedUp):
    """A peptide: its score for each of `CLASSES`, its known words, and its length."""

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        weights = tables["weights"]
        expected = (sum(pattern.words for pattern in PATTERNS), len(CLASSES))
        if tuple(weights.shape) != expected or tables["bias"].shape != (len(CLASSES),):
            raise ValueError(f"weights of {tuple(weights.shape)}, not {expected}")
        sizes = [pattern.words for pattern in PATTERNS]
        self._weights = torch.split(weights.float() * tables["scale"].float(), sizes)
        self._bias = tables["bias"].float().numpy()
        self._known = KnownWords(KNOWN_PEPTIDE, tables["known"])
        self.weight_bytes = sum(w.nbytes for w in self._weights) + self._known.table.nbytes
        self.dim = len(CLASSES) + len(KNOWN_VALUES) + 1

    @classmethod
    def of(cls, tables: Mapping[str, Tensor], spec: EncoderSpec, placement: Placement) -> Self:
        """The encoder with these tables, on the CPU wherever others compute."""
        return cls(tables)

    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        laid = Texts(texts)
        scores = np.zeros((len(texts), len(CLASSES)), np.float32)
        for pattern, weights in zip(PATTERNS, self._weights, strict=True):
            words = laid.words(pattern)
            mean = embedding_bag(
                torch.from_numpy(words.numbers),
                weights,
                torch.from_numpy(words.ends),
                mode="mean",
                include_last_offset=True,
            )
            scores += mean.numpy()
        length = length_of(texts)
        longest = np.log(_MOST_RESIDUES / _TYPICAL_RESIDUES)
        scores = scores * np.exp(np.minimum(length, longest) / 2)[:, None] + self._bias
        return np.concatenate([scores, self._known.values(laid), length[:, None]], axis=1)


def _sums(values: NDArray[Any], ends: NDArray[np.int32]) -> NDArray[np.float64]:
    """Sums of ``values[ends[i]:ends[i + 1]]``."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    sums: NDArray[np.float64] = (total[ends[1:]] - total[ends[:-1]]).astype(np.float64)
    return sums
