"""A frame's DNA and its peptide as mean-pooled embeddings of their n-grams: encoders to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from virnuc_dask.encoders.encoder import ARCHITECTURES
from virnuc_dask.encoders.words import TWENTY, LookedUp, Pattern, Texts, means
from virnuc_dask.sequences.bases import BASES

ARCHITECTURES |= {"dna_ngrams": "ngrams:DnaNgrams", "peptide_ngrams": "ngrams:PeptideNgrams"}

# Codons and their pairs in the text's own phase, 6-mers and residues at every place: table by
# table the n-grams and their step.
_DNA = {
    "codons": (Pattern(tuple(BASES), (0, 1, 2)), 3),
    "codon_pairs": (Pattern(tuple(BASES), (0, 1, 2, 3, 4, 5)), 3),
    "six_mers": (Pattern(tuple(BASES), (0, 1, 2, 3, 4, 5)), 1),
}
_PEPTIDE = {"residue_triples": (Pattern(TWENTY, (0, 1, 2)), 1)}

# Rows of each table, which is how many n-grams there are of its kind.
DNA_TABLES = {name: pattern.words for name, (pattern, _) in _DNA.items()}
PEPTIDE_TABLES = {name: pattern.words for name, (pattern, _) in _PEPTIDE.items()}


class _Ngrams(LookedUp):
    """Tables of n-gram embeddings, stored fp16: means of their rows, the tables side by side.

    A text without n-grams gets zeros; n-grams with a letter that is no base, or no residue, are
    left out.
    """

    kinds: ClassVar[Mapping[str, tuple[Pattern, int]]]

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        expected = {name: pattern.words for name, (pattern, _) in self.kinds.items()}
        if (found := {name: len(table) for name, table in tables.items()}) != expected:
            raise ValueError(f"has tables of {found} rows, expected {expected}")
        self.tables = {name: tables[name].float() for name in self.kinds}
        self.dim = sum(table.shape[1] for table in self.tables.values())
        self.weight_bytes = sum(table.nbytes for table in self.tables.values())

    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        laid = Texts(texts)
        kinds = zip(self.kinds.values(), self.tables.values(), strict=True)
        return np.hstack([means(laid.words(*kind), table) for kind, table in kinds])


class DnaNgrams(_Ngrams):
    """A frame's DNA: means of its codons, its codon pairs and its 6-mers, side by side."""

    kinds = _DNA


class PeptideNgrams(_Ngrams):
    """A frame's peptide: the mean of its residue triples."""

    kinds = _PEPTIDE
