"""The four bases: their letters, numbers and complements; codons and peptides of them."""

from __future__ import annotations

from itertools import product

import numpy as np
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
_BLOCK_NT, _FEW_NT = 1 << 18, 4000  # whose G and C are counted together
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


def share_of_gc(dna: str) -> float | None:
    """G and C among the bases of a sequence, upper or lower case; None without a base."""
    gc = at = 0
    for first in range(0, len(dna), _BLOCK_NT):
        letters = dna[first : first + _BLOCK_NT].encode("ascii")
        if len(letters) < _FEW_NT:  # of a read: many times as fast as arrays
            others = letters.translate(None, b"GCgc")
            gc += len(letters) - len(others)
            at += len(others) - len(others.translate(None, b"ATat"))
        else:
            alike = np.frombuffer(letters, np.uint8) & _ALIKE
            gc += int(np.count_nonzero(alike == _STRONG))
            at += int(np.count_nonzero((alike == _A) | (alike == _T)))
    return gc / (gc + at) if gc + at else None
