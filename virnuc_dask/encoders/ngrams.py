"""A frame's DNA and its peptide as mean-pooled embeddings of their n-grams.

Texts are laid end to end with a border letter between them, and the number of the n-gram at every
position is computed at once. An n-gram that touches a border or an ambiguous letter has a negative
number and is left out, so each text's embedding depends on that text alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.lookup import RESIDUES, LookedUp
from virnuc_dask.sequences.bases import BASES

# Rows of each table, which is how many n-grams there are of its kind.
DNA_TABLES = {"codons": 4**3, "codon_pairs": 4**6, "six_mers": 4**6}
PEPTIDE_TABLES = {"residue_triples": len(RESIDUES) ** 3}

_BORDER = "\n"
# Larger than any n-gram's number, so that any sum with it is negative; small enough for int32.
_NO_LETTER = -(1 << 14)


class Bags(NamedTuple):
    """The n-grams of several texts, int32: text i has ``ids[ends[i]:ends[i + 1]]``."""

    ids: Tensor
    ends: Tensor


def dna_bags(texts: Sequence[str], device: str | torch.device = "cpu") -> dict[str, Bags]:
    """Codons and codon pairs in the texts' own phase, 6-mers at every position.

    Returns
    -------
    dict
        Bags of len(texts), by the names in `DNA_TABLES`.
    """
    letters, starts = _join(texts, _BASE_CODE, device)
    triples = _number(letters, 3, len(BASES))
    six_mers = triples[:-3] * 64 + triples[3:]
    # The codons of a text and one that touches its border: a pair never spans two texts.
    codon_ends = _ends(torch.diff(starts).sub_(1).div_(3, rounding_mode="floor").add_(1))
    shift = starts[:-1] - 3 * codon_ends[:-1]
    codon_at = torch.arange(int(codon_ends[-1]), dtype=torch.int32, device=letters.device) * 3
    codon_at += torch.repeat_interleave(shift, torch.diff(codon_ends))
    return {
        "codons": _valid(triples[codon_at], codon_ends),
        "codon_pairs": _valid(six_mers[codon_at], codon_ends),
        "six_mers": _valid(six_mers[: starts[-1]], starts),
    }


def peptide_bags(texts: Sequence[str], device: str | torch.device = "cpu") -> dict[str, Bags]:
    """Residue triples at every position; bags of len(texts), by the names in `PEPTIDE_TABLES`."""
    letters, starts = _join(texts, _RESIDUE_CODE, device)
    triples = _number(letters, 3, len(RESIDUES))
    return {"residue_triples": _valid(triples[: starts[-1]], starts)}


class _Ngrams(LookedUp):
    """Tables of n-gram embeddings, stored fp16: means of their rows, the tables side by side.

    A text without n-grams gets zeros.
    """

    sizes: ClassVar[Mapping[str, int]]

    def __init__(self, tables: Mapping[str, Tensor], device: str | torch.device = "cpu") -> None:
        self.tables = {name: tables[name].to(device, torch.float32) for name in self.sizes}
        self.device = device
        self.dim = sum(table.shape[1] for table in self.tables.values())
        self.weight_bytes = sum(table.nbytes for table in self.tables.values())

    @classmethod
    def of(cls, tables: Mapping[str, Tensor], spec: EncoderSpec, placement: Placement) -> Self:
        """The encoder with these tables; `ValueError` if they have other sizes."""
        expected = {name: (rows, spec.config.get("width")) for name, rows in cls.sizes.items()}
        found = {name: tuple(table.shape) for name, table in tables.items()}
        if found != expected:
            raise ValueError(f"has the tables {found}, expected {expected}")
        return cls(tables, placement.device)

    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        means = [
            embedding_bag(bag.ids, table, bag.ends, mode="mean", include_last_offset=True)
            for bag, table in zip(self._bags(texts).values(), self.tables.values(), strict=True)
        ]
        pooled: NDArray[np.float32] = torch.cat(means, dim=1).cpu().numpy()
        return pooled

    @abstractmethod
    def _bags(self, texts: Sequence[str]) -> dict[str, Bags]:
        """Of each table, in the order of `sizes`."""


class DnaNgrams(_Ngrams):
    """A frame's DNA: means of its codons, its codon pairs and its 6-mers, side by side."""

    sizes = DNA_TABLES

    def _bags(self, texts: Sequence[str]) -> dict[str, Bags]:
        return dna_bags(texts, self.device)


class PeptideNgrams(_Ngrams):
    """A frame's peptide: the mean of its residue triples."""

    sizes = PEPTIDE_TABLES

    def _bags(self, texts: Sequence[str]) -> dict[str, Bags]:
        return peptide_bags(texts, self.device)


def _code_of(alphabet: str) -> Tensor:
    code = torch.full((256,), _NO_LETTER, dtype=torch.int32)
    for number, letter in enumerate(alphabet):
        code[ord(letter)] = code[ord(letter.lower())] = number
    return code


_BASE_CODE = _code_of(BASES)
_RESIDUE_CODE = _code_of(RESIDUES)


def _join(texts: Sequence[str], code: Tensor, device: str | torch.device) -> tuple[Tensor, Tensor]:
    """All letters as codes, borders between and six after the texts; where each text starts.

    ``starts`` has one value more than texts: where the borders after the last one begin. The six
    give even the last position of the last text a whole 6-mer's window.
    """
    joined = (_BORDER.join(texts) + 6 * _BORDER).encode("ascii", "replace")
    letters = torch.frombuffer(bytearray(joined), dtype=torch.uint8).to(device)
    lengths = torch.from_numpy(np.fromiter(map(len, texts), np.int32, len(texts)))
    return code.to(device)[letters.int()], _ends(lengths.to(device) + 1)


def _ends(counts: Tensor) -> Tensor:
    ends = torch.zeros(len(counts) + 1, dtype=torch.int32, device=counts.device)
    torch.cumsum(counts, 0, dtype=torch.int32, out=ends[1:])
    return ends


def _number(letters: Tensor, length: int, base: int) -> Tensor:
    """The number of the n-gram that begins at each position, negative if it is none."""
    last = len(letters) - length + 1
    numbers = letters[:last].clone()
    for step in range(1, length):
        numbers.mul_(base).add_(letters[step : step + last])
    return numbers


def _valid(numbers: Tensor, ends: Tensor) -> Bags:
    """Bags of the n-grams that are n-grams; ``ends`` bounds the texts within ``numbers``."""
    kept = numbers >= 0
    before = torch.zeros(len(kept) + 1, dtype=torch.int32, device=kept.device)
    torch.cumsum(kept, 0, dtype=torch.int32, out=before[1:])
    return Bags(numbers[kept], before[ends])
