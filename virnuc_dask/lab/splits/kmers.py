"""k-mers of DNA on both strands, words of peptides, and which sequences share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.sequences import bases

Numbers = NDArray[np.uint64]

_RESIDUES = b"ACDEFGHIKLMNPQRSTVWY"
_RESIDUE = np.full(256, len(_RESIDUES), np.uint8)
for _letters in (_RESIDUES, _RESIDUES.lower()):
    _RESIDUE[list(_letters)] = range(len(_RESIDUES))
_BORDER = "\n"  # between texts: no word has it
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Words(NamedTuple):
    """Stretches of some letters as numbers, in the order of the texts that they are of."""

    number: Numbers
    text: NDArray[np.int64]  # its place among the texts


def kmers_of(sequences: Sequence[str], k: int) -> Words:
    """The k-mers of DNA, on whichever strand is the smaller number; k is at most 31.

    Those with a letter other than A, C, G and T are left out.
    """
    number, at = kmers_at(_BORDER.join(sequences), k)
    return Words(number, _text_of(at, sequences))


def words_of(peptides: Sequence[str], length: int) -> Words:
    """Words of so many residues, at most 14; those with a letter that is no amino acid left out."""
    codes = _RESIDUE[np.frombuffer(_BORDER.join(peptides).encode("ascii"), np.uint8)]
    if len(codes) < length:
        return Words(np.empty(0, np.uint64), np.empty(0, np.int64))
    other = np.cumsum(np.concatenate(([0], codes == len(_RESIDUES))), dtype=np.int64)
    at = np.flatnonzero(other[length:] == other[:-length])
    number = np.zeros(len(codes) - length + 1, np.uint64)
    for place in range(length):
        number *= np.uint64(len(_RESIDUES))
        number += codes[place : place + len(number)]
    return Words(number[at], _text_of(at, peptides))


def sampled(kmers: Numbers, one_in: int) -> Numbers:
    """Those whose hash is among the smallest, about one in so many: the same of all sequences."""
    chosen: Numbers = kmers[kmers * _MULTIPLIER < np.uint64((2**64 - 1) // one_in)]
    return chosen


@dataclass(frozen=True, slots=True)
class KmerIndex:
    """The k-mers of some sequences."""

    k: int
    kmers: Numbers  # sorted, each once

    @classmethod
    def of(cls, sequences: Iterable[str], k: int) -> Self:
        """All of the ``sequences``' k-mers, on either strand."""
        kmers = [kmers_of([dna], k).number for dna in sequences]
        return cls(k, np.unique(np.concatenate([np.empty(0, np.uint64), *kmers])))

    def shared(self, sequences: Sequence[str]) -> NDArray[np.int64]:
        """How many places of each sequence have a k-mer of the index."""
        words = kmers_of(sequences, self.k)
        place = np.searchsorted(self.kmers, words.number)
        known = np.append(self.kmers, np.uint64(2**64 - 1))[place] == words.number
        return np.bincount(words.text[known], minlength=len(sequences))


def _text_of(at: NDArray[np.int64], texts: Sequence[str]) -> NDArray[np.int64]:
    """Which of the joined texts each place is in."""
    ends = np.cumsum([len(text) + 1 for text in texts])
    of: NDArray[np.int64] = np.searchsorted(ends, at, side="right")
    return of


def kmers_at(dna: str, k: int) -> tuple[Numbers, NDArray[np.int64]]:
    """k-mers of bases alone, and where they begin; k is at most 31.

    Two bits a base, the first one highest; of the two strands' numbers the smaller one.
    """
    numbers = bases.numbers_of(dna.encode("ascii"))
    if len(numbers) < k:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    unknown = np.cumsum(np.concatenate(([0], numbers >= bases.UNKNOWN)), dtype=np.int64)
    at = np.flatnonzero(unknown[k:] == unknown[:-k])
    known = numbers & np.uint8(3)
    forward, reverse = _packed(known, k), _packed(bases.other_strand(known), k)[::-1]
    return np.minimum(forward, reverse)[at], at


def _packed(known: bases.Numbers, k: int) -> Numbers:
    """The k-mer at every place, by runs of 1, 2, 4, … bases."""
    run, length = known.astype(np.uint64), 1
    packed, done = np.zeros(len(known) + 1, np.uint64), 0
    while True:
        if k & length:
            tail = run[done:] if done else run
            packed = (packed[: len(tail)] << np.uint64(2 * length)) | tail
            done += length
        if done == k:
            return packed
        run = (run[:-length] << np.uint64(2 * length)) | run[length:]
        length *= 2
