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

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import embedding_bag

from virnuc_dask.encoders.encoder import Encoder, EncoderSpec, Placement
from virnuc_dask.errors import ModelSetError
from virnuc_dask.sequences.chunks import blocks_of

CLASSES = ("phage", "eukaryotic_virus", "prokaryote", "eukaryote")
KNOWN_VALUES = ("known", "known_viral", "known_other")

_TYPICAL_RESIDUES = 200  # a peptide of so many has a length of 1
_MOST_RESIDUES = 600  # a longer one is scored as if it had so many
_PRIOR_WORDS = 10  # added to a text's words: few words say little
_SPEAKS = 2  # half units of log-odds from which a word speaks for its side
NEUTRAL = 8  # the four bits of a log-odds of 0
_BORDER = 18 * "\n"
_BLOCK_LETTERS = 1 << 18  # larger blocks fall out of the CPU's cache

Int32s = NDArray[np.int32]


Alphabet = tuple[str, ...]
"""Letters that count as one, by group."""


def _groups(letters: str) -> Alphabet:
    return tuple(letters.split())


TWENTY: Alphabet = tuple("ACDEFGHIKLMNPQRSTVWY")
FIFTEEN: Alphabet = _groups("A C D E FY G H IV KR LM N P Q ST W")
TEN: Alphabet = _groups("A C DE FWY G HNQ ILMV KR P ST")
SIX: Alphabet = _groups("AGPST C DENQ FWY HKR ILMV")


class Pattern(NamedTuple):
    """Words of the letters at these places, from each letter on."""

    alphabet: Alphabet
    places: tuple[int, ...]

    @property
    def words(self) -> int:
        """How many words there are."""
        return int(len(self.alphabet) ** len(self.places))


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
KNOWN_DNA = Pattern(tuple("TCAG"), (0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16))


class Words(NamedTuple):
    """Words of several texts: text i has ``numbers[ends[i]:ends[i + 1]]``."""

    numbers: Int32s
    ends: Int32s


class Texts:
    """Texts laid end to end, read in one alphabet after another.

    Each begins at a multiple of three and ends with a border, which is longer than a word reaches:
    a word that runs over the end of its text has a letter of the border.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        joined = "".join([text + _BORDER[len(text) % 3 :] for text in texts]) + _BORDER
        self._letters = joined.encode("ascii", "replace")
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._starts = np.append(0, np.cumsum(lengths + len(_BORDER) - lengths % 3))
        self._read: dict[Alphabet, tuple[Int32s, NDArray[np.bool_]]] = {}

    def words(self, pattern: Pattern, step: int = 1) -> Words:
        """Words of ``pattern`` in each text, from every letter on, or every third (``step``).

        Those with a letter that is in no group are left out.
        """
        codes, is_other = self._codes(pattern.alphabet)
        last = int(self._starts[-1])
        numbers, left_out = codes[:last:step].copy(), is_other[:last:step].copy()
        for place in pattern.places[1:]:
            numbers *= len(pattern.alphabet)
            numbers += codes[place : place + last : step]
            left_out |= is_other[place : place + last : step]
        starts = self._starts // step
        ends = starts - np.searchsorted(np.flatnonzero(left_out), starts)
        return Words(numbers[~left_out], ends.astype(np.int32))

    def _codes(self, alphabet: Alphabet) -> tuple[Int32s, NDArray[np.bool_]]:
        """The number of each letter's group, in either case, and whether it is in none."""
        if alphabet not in self._read:
            table = bytearray([len(alphabet)]) * 256
            for number, letters in enumerate(alphabet):
                for letter in letters + letters.lower():
                    table[ord(letter)] = number
            codes = np.frombuffer(self._letters.translate(table), np.uint8)
            self._read[alphabet] = codes.astype(np.int32), codes == len(alphabet)
        return self._read[alphabet]


def means(words: Words, table: Tensor) -> NDArray[np.float32]:
    """The mean of the rows that each text's words have in ``table``; zeros where it has none."""
    numbers, ends = map(torch.from_numpy, words)
    pooled = embedding_bag(numbers, table, ends, mode="mean", include_last_offset=True)
    return pooled.numpy()


class KnownWords:
    """Four bits of log-odds for each word of a pattern."""

    def __init__(self, pattern: Pattern, table: Tensor, step: int = 1) -> None:
        if table.dtype != torch.uint8 or table.shape != ((pattern.words + 1) // 2,):
            raise ValueError(f"{tuple(table.shape)} bytes for {pattern.words} words")
        self.pattern, self.step = pattern, step
        self.table = table.numpy()

    def values(self, texts: Texts) -> NDArray[np.float32]:
        """`KNOWN_VALUES` of each text, shape (texts, 3)."""
        numbers, ends = texts.words(self.pattern, self.step)
        packed = self.table[numbers >> 1]
        level = (packed >> ((numbers & 1) << 2).astype(np.uint8)) & 15
        count = np.diff(ends)
        prior = count + _PRIOR_WORDS
        columns = [
            (_sums(level, ends) - NEUTRAL * count) / 2 / np.sqrt(prior),
            _sums(level >= NEUTRAL + _SPEAKS, ends) / prior,
            _sums(level <= NEUTRAL - _SPEAKS, ends) / prior,
        ]
        return np.stack(columns, axis=1).astype(np.float32)


class LookedUp(Encoder):
    """Looks texts up in tables, on the CPU and in fp32 whatever `Placement` says."""

    @abstractmethod
    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        """Take the tables; `KeyError` or `ValueError` if they are of another encoder."""

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read the tables; `ModelSetError` if they are damaged, or not what ``spec`` says."""
        path = folder / spec.file
        try:
            encoder = cls(load_file(path))
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ModelSetError(
                f"{path}: not readable as tables of {spec.architecture} ({error}). "
                "Import or download the model set again."
            ) from error
        if encoder.dim != spec.dim:
            raise ModelSetError(f"{path}: embeds in {encoder.dim} values, not in {spec.dim}.")
        return encoder

    @torch.inference_mode()
    def embed_tokens(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of ``texts``, shape (len(texts), dim), float32, order kept."""
        blocks = [self._embed_block(block) for block in blocks_of(texts, _BLOCK_LETTERS)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *blocks])

    @abstractmethod
    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed_tokens`, of texts of about `_BLOCK_LETTERS`."""


class DnaWords(LookedUp):
    """A gene's DNA, in its phase: known words of six codons without third bases."""

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        self._known = KnownWords(KNOWN_DNA, tables["known"], step=3)
        self.weight_bytes = self._known.table.nbytes
        self.dim = len(KNOWN_VALUES)

    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._known.values(Texts(texts))


class PeptideWords(LookedUp):
    """A peptide: its score for each of `CLASSES`, its known words, its length."""

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

    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        laid = Texts(texts)
        scores = np.zeros((len(texts), len(CLASSES)), np.float32)
        for pattern, weights in zip(PATTERNS, self._weights, strict=True):
            scores += means(laid.words(pattern), weights)
        letters = np.fromiter(map(len, texts), np.float32, len(texts))
        length = np.log(np.maximum(letters, 1) / _TYPICAL_RESIDUES)
        longest = np.log(_MOST_RESIDUES / _TYPICAL_RESIDUES)
        scores = scores * np.exp(np.minimum(length, longest) / 2)[:, None] + self._bias
        columns = [scores, self._known.values(laid), length[:, None]]
        return np.hstack(columns).astype(np.float32)


def _sums(values: NDArray[Any], ends: Int32s) -> NDArray[np.int64]:
    """Sums of ``values[ends[i]:ends[i + 1]]``."""
    return np.diff(np.append(0, np.cumsum(values, dtype=np.int64))[ends])
