"""A frame's DNA and its peptide as mean-pooled embeddings of their n-grams.

Texts are laid end to end with a border letter between them, and the number of the n-gram at every
position is computed at once. An n-gram that touches a border or an ambiguous letter has a negative
number and is left out, so each text's embedding depends on that text alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import embedding_bag

from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.errors import ModelSetError
from virnuc_dask.sequences.bases import BASES

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

# Rows of each table, which is how many n-grams there are of its kind.
DNA_TABLES = {"codons": 4**3, "codon_pairs": 4**6, "six_mers": 4**6}
PEPTIDE_TABLES = {"residue_triples": len(RESIDUES) ** 3}

# One block's memory is about 60 bytes a letter; larger blocks fall out of the CPU's cache.
BLOCK_LETTERS = 1 << 18

_BORDER = "\n"
# Larger than any n-gram's number, so that any sum with it is negative; small enough for int32.
NO_LETTER = -(1 << 14)


@dataclass(frozen=True, slots=True)
class Bags:
    """The n-grams of several texts: text i has ``ids[ends[i]:ends[i + 1]]``.

    ``ids`` and ``ends`` are int32; ``ends`` starts with 0 and has one value more than texts.
    """

    ids: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.ends) - 1

    def part(self, start: int, stop: int) -> Bags:
        """The bags of texts [start, stop)."""
        first, last = int(self.ends[start]), int(self.ends[stop])
        return Bags(self.ids[first:last], self.ends[start : stop + 1] - first)

    def where(self, kept: Tensor) -> Bags:
        """The bags with only the n-grams for which ``kept`` (bool, one per id) is true."""
        before = torch.zeros(len(kept) + 1, dtype=torch.int32, device=kept.device)
        torch.cumsum(kept, 0, dtype=torch.int32, out=before[1:])
        return Bags(self.ids[kept], before[self.ends])


def dna_bags(texts: Sequence[str], device: str | torch.device = "cpu") -> dict[str, Bags]:
    """Codons and codon pairs in the texts' own phase, 6-mers at every position.

    Returns
    -------
    dict
        Bags of len(texts), by the names in `DNA_TABLES`.
    """
    return base_bags(*_join(texts, _BASE_CODE, device))


def base_bags(letters: Tensor, starts: Tensor) -> dict[str, Bags]:
    """`dna_bags` of texts that are laid end to end as codes already.

    Parameters
    ----------
    letters
        int32; places in `BASES`, `NO_LETTER` for anything else and between two texts; six more of
        these after the last text.
    starts
        int32; where each text starts, and one after the border that follows the last one.
    """
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
    return residue_bags(*_join(texts, _RESIDUE_CODE, device))


def residue_bags(letters: Tensor, starts: Tensor) -> dict[str, Bags]:
    """`peptide_bags` of texts laid end to end as places in `RESIDUES`; see `base_bags`."""
    triples = _number(letters, 3, len(RESIDUES))
    return {"residue_triples": _valid(triples[: starts[-1]], starts)}


def mean_pool(tables: Mapping[str, Tensor], bags: Mapping[str, Bags]) -> Tensor:
    """Mean of each bag's rows, the tables side by side: shape (texts, sum of widths).

    A text without n-grams gets zeros.
    """
    means = [
        embedding_bag(bags[name].ids, table, bags[name].ends, mode="mean", include_last_offset=True)
        for name, table in tables.items()
    ]
    return torch.cat(means, dim=1)


class _Ngrams:
    """What both encoders share: tables of n-gram embeddings, stored fp16, computed in fp32.

    A mean of a thousand rows costs its memory traffic whatever the precision, and the tables are
    small; so ``Placement.precision`` changes nothing here. Nor does ``max_tokens``: blocks of
    `BLOCK_LETTERS` bound the memory.
    """

    sizes: ClassVar[Mapping[str, int]]

    def __init__(self, tables: Mapping[str, Tensor], device: str | torch.device = "cpu") -> None:
        self.tables = {name: tables[name].to(device, torch.float32) for name in self.sizes}
        self.device = device
        self.dim = sum(table.shape[1] for table in self.tables.values())

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read the tables.

        Raises
        ------
        ModelSetError
            If the file is missing or damaged, or its tables do not have the sizes of ``spec``.
        """
        path = folder / spec.file
        try:
            tables = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelSetError(f"{path}: not readable as safetensors: {error}") from error
        expected = {name: (rows, spec.config.get("width")) for name, rows in cls.sizes.items()}
        found = {name: tuple(table.shape) for name, table in tables.items()}
        if found != expected:
            raise ModelSetError(f"{path}: has the tables {found}, expected {expected}.")
        encoder = cls(tables, placement.device)
        if encoder.dim != spec.dim:
            raise ModelSetError(f"{path}: embeds in {encoder.dim} values, not in {spec.dim}.")
        return encoder

    @property
    def weight_bytes(self) -> int:
        """Memory that the tables take, in bytes."""
        return sum(table.nbytes for table in self.tables.values())

    def tokenise(self, texts: Sequence[str]) -> Sequence[str]:
        """The texts themselves: n-grams are counted where they are looked up."""
        return texts

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of ``texts``, shape (len(texts), dim), float32, order kept."""
        return self.embed_tokens(self.tokenise(texts))

    @torch.inference_mode()
    def embed_tokens(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of ``texts``, shape (len(texts), dim), float32, order kept."""
        embeddings = np.zeros((len(texts), self.dim), np.float32)
        for start, stop in text_blocks(texts):
            pooled = mean_pool(self.tables, self._bags(texts[start:stop]))
            embeddings[start:stop] = pooled.cpu().numpy()
        return embeddings

    def _bags(self, texts: Sequence[str]) -> dict[str, Bags]:
        raise NotImplementedError


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
    code = torch.full((256,), NO_LETTER, dtype=torch.int32)
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
    return Bags(numbers, ends).where(numbers >= 0)


def text_blocks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of texts that hold about `BLOCK_LETTERS` letters each."""
    letters = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    block = letters // BLOCK_LETTERS
    bounds = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(texts)]
    return ((start, stop) for start, stop in pairwise(bounds) if stop > start)
