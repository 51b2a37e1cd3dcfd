"""Which sequences share a 31-mer, on either strand, with a given set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

K = 31

_BORDER = "\n"
_CODE = np.full(256, 4, np.uint8)
for _letters in (b"ACGT", b"acgt"):
    _CODE[list(_letters)] = range(4)
_COMPLEMENT = str.maketrans("ACGTacgt", "TGCAtgca")

# A first look at a table of occupied slots spares nearly all binary searches.
_SLOT_BITS = 27
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class KmerSet:
    """The 31-mers of some sequences and of their reverse complements."""

    kmers: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))  # sorted
    occupied: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        occupied = np.zeros(1 << _SLOT_BITS if len(self.kmers) else 0, np.bool_)
        occupied[_slots(self.kmers)] = True
        object.__setattr__(self, "occupied", occupied)

    @classmethod
    def of(cls, sequences: Iterable[str]) -> KmerSet:
        """All 31-mers of ``sequences`` that have no letter but A, C, G and T."""
        both = [strand for dna in sequences for strand in (dna, dna[::-1].translate(_COMPLEMENT))]
        kmers, _, _ = kmers_of(both)
        return cls(np.unique(kmers))

    def shared_with(self, sequences: Sequence[str]) -> NDArray[np.bool_]:
        """Which ``sequences`` have at least one 31-mer of the set, on either strand."""
        shared = np.zeros(len(sequences), np.bool_)
        if not len(self.kmers):
            return shared
        kmers, at, starts = kmers_of(sequences)
        perhaps = np.flatnonzero(self.occupied[_slots(kmers)])
        perhaps = perhaps[np.argsort(kmers[perhaps])]  # sorted queries search faster
        place = np.searchsorted(self.kmers, kmers[perhaps]).clip(max=len(self.kmers) - 1)
        found = perhaps[self.kmers[place] == kmers[perhaps]]
        shared[np.searchsorted(starts, at[found], side="right") - 1] = True
        return shared


def kmers_of(
    sequences: Sequence[str],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """All 31-mers of ``sequences`` that have no letter but A, C, G and T, on the strand given.

    Returns
    -------
    array of uint64
        The 31-mers, two bits a base, the first base highest: A, C, G, T are 0 to 3.
    array of int64
        Where each begins in the sequences joined by one letter.
    array of int64
        Where each sequence begins there: ``searchsorted`` tells which one a 31-mer is of.
    """
    joined = _BORDER.join(sequences).encode("ascii")
    codes = _CODE[np.frombuffer(joined, np.uint8)]
    starts = np.cumsum([0, *(len(dna) + 1 for dna in sequences)], dtype=np.int64)[:-1]
    if len(codes) < K:
        return np.empty(0, np.uint64), np.empty(0, np.int64), starts
    ambiguous = np.cumsum(np.concatenate(([0], codes > 3)), dtype=np.int64)
    at = np.flatnonzero(ambiguous[K:] == ambiguous[:-K])
    return _pack(codes)[at], at, starts


def _pack(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The 31-mer at every position, two bits a base, built from runs of 1, 2, 4, … bases."""
    runs, length = codes.astype(np.uint64) & np.uint64(3), 1
    packed, packed_length = runs, 1
    while packed_length < K:
        runs = (runs[:-length] << np.uint64(2 * length)) | runs[length:]
        length *= 2
        packed = (packed[: len(runs) - packed_length] << np.uint64(2 * length)) | runs[
            packed_length:
        ]
        packed_length += length
    return packed


def _slots(kmers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    slots: NDArray[np.uint64] = (kmers * _MULTIPLIER) >> np.uint64(64 - _SLOT_BITS)
    return slots
