"""Windows with the amino acids of distant relatives.

The genes that a model set will meet are not those it was trained on, nor near relatives. Training
windows are therefore mutated: residues of an open frame are replaced as evolution does (BLOSUM62),
each new codon being drawn from the window's own usage, so that the style of the genome stays while
the words of the family go.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.encoders.ngrams import RESIDUES
from virnuc_dask.sequences.frames import translate

Windows = NDArray[np.uint8]

# Scores in half bits, rows and columns in the order of `RESIDUES`: S. and J. G. Henikoff, 1992,
# doi:10.1073/pnas.89.22.10915. P(b | a) is proportional to P(b) 2^(score / 2).
_BLOSUM62 = """
 4  0 -2 -1 -2  0 -2 -1 -1 -1 -1 -2 -1 -1 -1  1  0  0 -3 -2
 0  9 -3 -4 -2 -3 -3 -1 -3 -1 -1 -3 -3 -3 -3 -1 -1 -1 -2 -2
-2 -3  6  2 -3 -1 -1 -3 -1 -4 -3  1 -1  0 -2  0 -1 -3 -4 -3
-1 -4  2  5 -3 -2  0 -3  1 -3 -2  0 -1  2  0  0 -1 -2 -3 -2
-2 -2 -3 -3  6 -3 -1  0 -3  0  0 -3 -4 -3 -3 -2 -2 -1  1  3
 0 -3 -1 -2 -3  6 -2 -4 -2 -4 -3  0 -2 -2 -2  0 -2 -3 -2 -3
-2 -3 -1  0 -1 -2  8 -3 -1 -3 -2  1 -2  0  0 -1 -2 -3 -2  2
-1 -1 -3 -3  0 -4 -3  4 -3  2  1 -3 -3 -3 -3 -2 -1  3 -3 -1
-1 -3 -1  1 -3 -2 -1 -3  5 -2 -1  0 -1  1  2  0 -1 -2 -3 -2
-1 -1 -4 -3  0 -4 -3  2 -2  4  2 -3 -3 -2 -2 -2 -1  1 -2 -1
-1 -1 -3 -2  0 -3 -2  1 -1  2  5 -2 -2  0 -1 -1 -1  1 -1 -1
-2 -3  1  0 -3  0  1 -3  0 -3 -2  6 -2  0  0  1  0 -3 -4 -2
-1 -3 -1 -1 -4 -2 -2 -3 -1 -3 -2 -2  7 -1 -2 -1 -1 -2 -4 -3
-1 -3  0  2 -3 -2  0 -3  1 -2  0  0 -1  5  1  0 -1 -2 -2 -1
-1 -3 -2  0 -3 -2  0 -3  2 -2 -1  0 -2  1  5 -1 -1 -3 -3 -2
 1 -1  0  0 -2  0 -1 -2  0 -2 -1  1 -1  0 -1  4  1 -2 -3 -2
 0 -1 -1 -1 -2 -2 -2 -1 -1 -1 -1  0 -1 -1 -1  1  5  0 -2 -2
 0 -1 -3 -2 -1 -3 -3  3 -2  1  1 -3 -2 -2 -3 -2  0  4 -3 -1
-3 -2 -4 -3  1 -2 -2 -3 -3 -2 -1 -4 -4 -2 -3 -3 -2 -3 11  2
-2 -2 -3 -2  3 -3  2 -1 -2 -1 -1 -2 -3 -1 -2 -2 -2 -1  2  7
"""
_CODONS = [first + second + third for first in "ACGT" for second in "ACGT" for third in "ACGT"]
_AMINO_ACID = translate("".join(_CODONS))
IS_STOP = np.array([letter == "*" for letter in _AMINO_ACID])
_RESIDUE = np.array([max(RESIDUES.find(letter), 0) for letter in _AMINO_ACID])
_ODDS = 2.0 ** (np.array(_BLOSUM62.split(), np.float32).reshape(20, 20) / 2)
# How likely one codon's residue becomes another's; nothing leads to a stop.
_BECOMES = np.where(IS_STOP, 0, _ODDS[_RESIDUE][:, _RESIDUE]).astype(np.float32)

_PRIOR = 0.3  # weight of the usage that the bases alone suggest
_BASE_PSEUDO_SHARE = 0.02


def codons_of(bases: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Codon numbers of base codes, shape (windows, 3 n) → (windows, n)."""
    triples = bases.reshape(len(bases), bases.shape[1] // 3, 3).astype(np.int64)
    numbers: NDArray[np.int64] = triples @ np.array([16, 4, 1])
    return numbers


def mutate(windows: Windows, highest_share: float, rng: np.random.Generator) -> Windows:
    """Mutate the first open forward frame of each window; windows without one stay.

    Parameters
    ----------
    windows
        Base codes (0 to 3), shape (windows, length).
    highest_share
        Of a window's residues that are replaced at most; its share is drawn evenly from 0 on.
    """
    codons_in_frame = (windows.shape[1] - 2) // 3
    mutated = windows.copy()
    waiting = np.ones(len(windows), np.bool_)
    for offset in range(3):
        span = slice(offset, offset + 3 * codons_in_frame)
        codons = codons_of(windows[:, span])
        rows = np.flatnonzero(waiting & ~IS_STOP[codons].any(axis=1))
        waiting[rows] = False
        if len(rows):
            mutated[rows, span] = _bases_of(_replaced(codons[rows], highest_share, rng))
    return mutated


def _replaced(
    codons: NDArray[np.int64], highest_share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    usage = _usage(codons)
    share = rng.random((len(codons), 1)) * highest_share
    row, place = np.nonzero(rng.random(codons.shape) < share)
    weights = _BECOMES[codons[row, place]] * usage[row]
    cumulative = np.cumsum(weights, axis=1)
    threshold = rng.random((len(row), 1), np.float32) * cumulative[:, -1:]
    drawn = (cumulative <= threshold).sum(axis=1).clip(max=len(_CODONS) - 1)
    made = codons.copy()
    made[row, place] = np.where(IS_STOP[drawn], codons[row, place], drawn)
    return made


def _usage(codons: NDArray[np.int64]) -> NDArray[np.float32]:
    """Each window's codon usage within its amino acids, shape (windows, 64)."""
    count, length = codons.shape
    used = np.zeros((count, 64), np.float32)
    np.add.at(used, (np.repeat(np.arange(count), length), codons.ravel()), np.float32(1 / length))
    expected = np.ones((count, 64), np.float32)
    every = np.arange(64)
    for shift in (4, 2, 0):
        bases = (codons >> shift) & 3
        shares = np.stack([(bases == base).mean(axis=1) for base in range(4)], axis=1)
        expected *= shares[:, (every >> shift) & 3] + _BASE_PSEUDO_SHARE
    used += _PRIOR * expected
    used[:, IS_STOP] = 0
    of_residue = np.zeros((count, len(RESIDUES)), np.float32)
    for residue in range(len(RESIDUES)):
        of_residue[:, residue] = used[:, (residue == _RESIDUE) & ~IS_STOP].sum(axis=1)
    return used / of_residue[:, _RESIDUE]


def _bases_of(codons: NDArray[np.int64]) -> NDArray[np.uint8]:
    bases = np.stack([codons >> 4, (codons >> 2) & 3, codons & 3], axis=2)
    return bases.reshape(len(codons), -1).astype(np.uint8)
