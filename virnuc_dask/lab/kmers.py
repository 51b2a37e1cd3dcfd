"""k-mers of DNA that stand for both strands, and which sequences share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.sequences.bases import Kmers, kmers_of

_BORDER = "\n"
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SLOT_BITS = 24


def sampled(dna: str, k: int, one_in: int) -> Kmers:
    """Those of the `kmers_of` DNA whose hash is among the smallest, about one in so many."""
    kmers, _ = kmers_of(dna, k)
    chosen: Kmers = kmers[kmers * _MULTIPLIER < np.uint64(2**64 // one_in)]
    return chosen


@dataclass(frozen=True, slots=True)
class KmerIndex:
    """The k-mers of some sequences."""

    k: int
    kmers: Kmers  # sorted, each once
    occupied: NDArray[np.bool_]  # slots by hash: a first look, which spares most searches

    @classmethod
    def of(cls, sequences: Iterable[str], k: int) -> Self:
        """All of the ``sequences``' k-mers, on either strand."""
        kmers = [kmers_of(dna, k)[0] for dna in sequences]
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
        kmers, at = kmers_of(_BORDER.join(sequences), self.k)
        perhaps = np.flatnonzero(self.occupied[_slots(kmers)])
        place = np.searchsorted(self.kmers, kmers[perhaps]).clip(max=len(self.kmers) - 1)
        found = at[perhaps[self.kmers[place] == kmers[perhaps]]]
        np.add.at(counts, np.searchsorted(ends, found, side="right"), 1)
        return counts


def _slots(kmers: Kmers) -> Kmers:
    slots: Kmers = (kmers * _MULTIPLIER) >> np.uint64(64 - _SLOT_BITS)
    return slots
