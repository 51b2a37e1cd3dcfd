"""All 31-mers of many sequences, as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K = 31

_BORDER = "\n"
_CODE = np.full(256, 4, np.uint8)
for _letters in (b"ACGT", b"acgt"):
    _CODE[list(_letters)] = range(4)


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
