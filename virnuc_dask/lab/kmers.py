"""k-mers of DNA that stand for both strands, and which sequences share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Kmers = NDArray[np.uint64]

_BORDER = "\n"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SLOT_BITS = 24
_CODE = np.full(256, 4, np.uint8)
for _letters in (b"ACGT", b"acgt"):
    _CODE[list(_letters)] = range(4)


def kmers_of(dna: str, k: int, one_in: int = 1) -> Kmers:
    """The k-mers of DNA, on whichever strand is the smaller number; k is at most 31.

    Parameters
    ----------
    one_in
        Only those whose hash is among the smallest, about one in so many.
    """
    kmers, _ = _placed(dna, k)
    if one_in == 1:
        return kmers
    chosen: Kmers = kmers[kmers * _MULTIPLIER < np.uint64(2**64 // one_in)]
    return chosen


def _placed(dna: str, k: int) -> tuple[Kmers, NDArray[np.int64]]:
    """k-mers without a letter other than A, C, G and T, and where they begin."""
    codes = _CODE[np.frombuffer(dna.encode("ascii"), np.uint8)]
    if len(codes) < k:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    ambiguous = np.cumsum(np.concatenate(([0], codes > 3)), dtype=np.int64)
    at = np.flatnonzero(ambiguous[k:] == ambiguous[:-k])
    bases = codes & np.uint8(3)
    forward, reverse = _packed(bases, k), _packed(bases[::-1] ^ np.uint8(3), k)[::-1]
    return np.minimum(forward, reverse)[at], at


def _packed(codes: NDArray[np.uint8], k: int) -> Kmers:
    """The k-mer at every place, two bits a base, the first one highest: by runs of 1, 2, 4, …."""
    run, length = codes.astype(np.uint64), 1
    packed, done = np.zeros(len(codes) + 1, np.uint64), 0
    while True:
        if k & length:
            tail = run[done:] if done else run
            packed = (packed[: len(tail)] << np.uint64(2 * length)) | tail
            done += length
        if done == k:
            return packed
        run = (run[:-length] << np.uint64(2 * length)) | run[length:]
        length *= 2


@dataclass(frozen=True, slots=True)
class KmerIndex:
    """The k-mers of some sequences."""

    k: int
    kmers: Kmers  # sorted, each once
    occupied: NDArray[np.bool_]  # slots by hash: a first look, which spares most searches

    @classmethod
    def of(cls, sequences: Iterable[str], k: int) -> Self:
        """All of the ``sequences``' k-mers, on either strand."""
        kmers = [kmers_of(dna, k) for dna in sequences]
        unique = np.unique(np.concatenate([np.empty(0, np.uint64), *kmers]))
        occupied = np.zeros(1 << _SLOT_BITS, np.bool_)
        occupied[_slots(unique)] = True
        return cls(k, unique, occupied)

    def shared(self, sequences: Sequence[str]) -> NDArray[np.int64]:
        """How many places of each sequence have a k-mer of the index."""
        counts = np.zeros(len(sequences), np.int64)
        if not len(self.kmers):
            return counts
        ends = np.cumsum([len(dna) + 1 for dna in sequences])
        kmers, at = _placed(_BORDER.join(sequences), self.k)
        perhaps = np.flatnonzero(self.occupied[_slots(kmers)])
        place = np.searchsorted(self.kmers, kmers[perhaps]).clip(max=len(self.kmers) - 1)
        found = at[perhaps[self.kmers[place] == kmers[perhaps]]]
        np.add.at(counts, np.searchsorted(ends, found, side="right"), 1)
        return counts


def _slots(kmers: Kmers) -> Kmers:
    slots: Kmers = (kmers * _MULTIPLIER) >> np.uint64(64 - _SLOT_BITS)
    return slots
