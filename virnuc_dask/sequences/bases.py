"""The four bases: their letters, numbers and complements; codons and peptides of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[np.uint8]

BASES = "ACGT"
"""A base's number is its place here; 3 less it is that of the complement."""
CODONS = ["".join(bases) for bases in product(BASES, repeat=3)]
"""A codon's number is its place here."""
UNKNOWN, UNKNOWN_CODON = len(BASES), len(CODONS)
STOPS = ("TAA", "TAG", "TGA")

# IUPAC's letters; N, S, W and gaps stay.
_COMPLEMENT = str.maketrans("ACGTRYKMBVDH", "TGCAYRMKVBHD")
_NUMBER = bytes(BASES.find(chr(byte).upper()) % 5 for byte in range(256))  # none: -1, so 4
_OTHER_STRAND = bytes.maketrans(b"\0\1\2\3", b"\3\2\1\0")
_BATCH_NT = 1 << 18  # that are counted together
# With this mask G and C of either case are one letter; A and T stay what no other nucleotide is.
_ALIKE = 0xDB
_STRONG, _A, _T = (ord(base) & _ALIKE for base in "GAT")
# The standard code, in the order of `CODONS`.
_PEPTIDE = b"KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF" + b"X" * 192
# Codes of bacteria and viruses that read a stop of the standard code, by NCBI's number.
_RECODED = {4: ("TGA", "W"), 15: ("TAG", "Q"), 25: ("TGA", "G")}


def reverse_complement(dna: str) -> str:
    """The other strand of upper-case letters, ambiguous ones too."""
    return dna.translate(_COMPLEMENT)[::-1]


def numbers_of(dna: bytes) -> Numbers:
    """The number of each base, upper or lower case; `UNKNOWN` for any other letter."""
    return np.frombuffer(dna.translate(_NUMBER), np.uint8)


def other_strand(numbers: Numbers) -> Numbers:
    """As `reverse_complement`, of numbers."""
    return np.frombuffer(numbers[::-1].tobytes().translate(_OTHER_STRAND), np.uint8)


def codons_of(numbers: Numbers, step: int = 1) -> Numbers:
    """The number of the codon that begins at each place, or at every ``step``-th.

    `UNKNOWN_CODON` if it is not of three bases.
    """
    first, second, third = (numbers[at : len(numbers) - 2 + at : step] for at in range(3))
    codons = np.full(-(-len(numbers) // step), UNKNOWN_CODON, np.uint8)
    whole = codons[: len(first)]
    np.left_shift(first, 4, out=whole)
    whole += second << 2
    whole += third
    whole[(first | second | third) >= UNKNOWN] = UNKNOWN_CODON
    return codons


def residues_of(codons: Numbers) -> Numbers:
    """Letters of amino acids in the standard code; ``*`` for a stop, ``X`` for `UNKNOWN_CODON`."""
    return np.frombuffer(codons.tobytes().translate(_PEPTIDE), np.uint8)


def translate(dna: str) -> str:
    """Amino acids of the whole codons of ``dna``, stops as ``*``, ambiguous codons as ``X``."""
    codons = codons_of(numbers_of(dna.encode("ascii")), 3)
    return residues_of(codons[: len(dna) // 3]).tobytes().decode()


def translate_codons(dna: str, tables: NDArray[np.int8]) -> Numbers:
    """As `translate`, each codon by the NCBI table named for it."""
    codons = codons_of(numbers_of(dna.encode("ascii")), 3)
    letters = residues_of(codons).copy()
    for table, (codon, letter) in _RECODED.items():
        letters[(codons == CODONS.index(codon)) & (tables == table)] = ord(letter)
    return letters


class Composition:
    """Shares of G and C of sequences that come one by one; a batch of letters is kept."""

    def __init__(self) -> None:
        self._texts, self._of, self._waiting_nt = list[str](), list[int](), 0
        self._counts = [np.zeros((3, 0), np.int64)]  # sequence, bases G and C, bases A and T
        self._sequences = 0

    def add(self, dna: str) -> None:
        """Take in a sequence, upper or lower case."""
        for at in range(0, len(dna), _BATCH_NT):
            self._texts.append(dna[at : at + _BATCH_NT])
            self._of.append(self._sequences)
            self._waiting_nt += len(self._texts[-1])
            if self._waiting_nt >= _BATCH_NT:
                self._count()
        self._sequences += 1

    def shares(self) -> pa.Array:
        """Of each sequence since the last time: G and C among its bases, null without a base."""
        self._count()
        of, *pairs = np.concatenate(self._counts, axis=1)
        strong, weak = (np.bincount(of, counts, self._sequences) for counts in pairs)
        bases, self._counts, self._sequences = strong + weak, self._counts[:1], 0
        return pa.array(strong / np.maximum(bases, 1), mask=bases == 0)

    def _count(self) -> None:
        if not self._texts:
            return
        letters = np.frombuffer("".join(self._texts).encode("ascii"), np.uint8) & _ALIKE
        starts = np.cumsum([0, *map(len, self._texts)])[:-1]
        kinds = (letters == _STRONG, (letters == _A) | (letters == _T))
        counts = [np.add.reduceat(kind.view(np.uint8), starts, dtype=np.int64) for kind in kinds]
        self._counts.append(np.array([self._of, *counts]))
        self._texts, self._of, self._waiting_nt = [], [], 0
