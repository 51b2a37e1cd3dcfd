"""Genes of records → what they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.tables.vectors import from_column

Floats = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Bounds between classes of length of a gene, and of the distance to the next gene, in nt. Genes of
# one operon overlap by 1 or 4 bases.
GENE_NT = (150, 300, 450, 600, 900, 1200, 1800, 3000)
GAP_NT = (-30, -5, 0, 20, 60, 150, 300, 600)
_SHORTEST_GAP, _LONGEST_GAP = -50, 500
_OPERON_GAPS = (-4, -1)
_HIGHEST = 3  # genes of a record whose evidence is looked at apart


@dataclass(frozen=True, slots=True)
class GeneColumns:
    """Genes of records, ordered by record and start; arrays of one length, n."""

    start: IntArray
    end: IntArray
    strand: NDArray[np.int8]  # 1 or -1
    is_partial: NDArray[np.bool_]
    start_type: NDArray[np.str_]
    has_rbs: NDArray[np.bool_]
    translation_table: NDArray[np.int8]
    is_viral_model: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    scores: NDArray[np.float32]  # (n, 5): coding, start, RBS, upstream, start type
    evidence: NDArray[np.float32]  # (n, columns); the first is the classifier's

    @classmethod
    def of(cls, table: pa.Table, viral_models: NDArray[np.int64]) -> Self:
        """Rows of a prediction table that are genes; ``viral_models`` are numbers of `model`."""

        def numpy(name: str) -> NDArray[Any]:
            values: NDArray[Any] = table[name].to_numpy()
            return values

        scores = ("coding_score", "start_score", "rbs_score", "upstream_score", "type_score")
        return cls(
            start=numpy("start"),
            end=numpy("end"),
            strand=np.where(numpy("strand") == "+", 1, -1).astype(np.int8),
            is_partial=numpy("partial_left") | numpy("partial_right"),
            start_type=numpy("start_type").astype(np.str_),
            has_rbs=numpy("rbs"),
            translation_table=numpy("translation_table"),
            is_viral_model=np.isin(numpy("model"), viral_models),
            confidence=numpy("confidence"),
            scores=np.stack([numpy(name) for name in scores], axis=1),
            evidence=from_column(table, "evidence"),
        )


@dataclass(frozen=True, slots=True)
class GeneSums:
    """What the genes of each record add up to; a row a record that has genes.

    ``totals`` are sums over genes and over pairs of neighbours (see `GENE_TOTALS`,
    `PAIR_TOTALS`, then five of each column of evidence); ``largest`` and ``smallest`` are of a
    gene's length, then of each column of evidence, ``largest`` also of neighbours' mean evidence;
    ``highest`` is the evidence of the `_HIGHEST` genes, per column, falling, -inf where there are
    fewer.
    """

    record_index: IntArray
    totals: Floats
    largest: Floats
    smallest: Floats
    highest: Floats  # (records, columns, _HIGHEST)

    @classmethod
    def of(cls, genes: GeneColumns, record_index: IntArray) -> Self:
        """Sum genes; ``record_index`` is of each gene, ascending."""
        at = np.flatnonzero(np.diff(record_index, prepend=-1))
        length = (genes.end - genes.start).astype(np.float64)
        evidence = genes.evidence.astype(np.float64)
        values = np.concatenate([_of_gene(genes, length), *_of_evidence(evidence, length)], axis=1)
        begin = np.stack([genes.start, genes.strand, evidence[:, 0]], axis=1).astype(np.float64)
        end = np.stack([genes.end, genes.strand, evidence[:, 0]], axis=1).astype(np.float64)
        pairs = _of_pair(end[:-1], begin[1:])
        is_pair = np.diff(record_index) == 0
        pairs[~is_pair] = 0
        pairs = np.concatenate([pairs, np.zeros((1, pairs.shape[1]))])
        beside = np.full(len(length), -np.inf)
        beside[:-1][is_pair] = _beside(end[:-1], begin[1:])[is_pair]
        extremes = np.concatenate([length[:, None], evidence], axis=1)
        return cls(
            record_index=record_index[at],
            totals=np.add.reduceat(np.concatenate([values, pairs], axis=1), at),
            largest=np.maximum.reduceat(np.concatenate([extremes, beside[:, None]], axis=1), at),
            smallest=np.minimum.reduceat(extremes, at),
            highest=_highest(evidence, record_index, at),
        )

    def __len__(self) -> int:
        return len(self.record_index)


GENE_TOTALS = (
    "genes",
    "length_nt",
    "length_squared",
    "strand",
    "partial",
    "rbs",
    "atg",
    "gtg",
    "ttg",
    "other_table",
    "viral_model",
    "confidence",
    "coding_score",
    "start_score",
    "rbs_score",
    "upstream_score",
    "type_score",
    *(f"genes_below_{nt}_nt" for nt in GENE_NT),
)
PAIR_TOTALS = (
    "pairs",
    "switches",
    "gap_nt",
    "operon_gaps",
    "both_viral",
    "product",
    *(f"gaps_below_{nt}_nt" for nt in GAP_NT),
)
EVIDENCE_TOTALS = ("sum", "squared", "by_length", "by_root_length", "positive")


def _of_gene(genes: GeneColumns, length: Floats) -> Floats:
    columns = [
        np.ones_like(length),
        length,
        length**2,
        genes.strand,
        genes.is_partial,
        genes.has_rbs,
        *(genes.start_type == start for start in ("ATG", "GTG", "TTG")),
        genes.translation_table != 11,
        genes.is_viral_model,
        genes.confidence,
        *genes.scores.T,
        *(length < nt for nt in GENE_NT),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _of_evidence(evidence: Floats, length: Floats) -> list[Floats]:
    """Five columns for each of ``evidence``: see `EVIDENCE_TOTALS`."""
    return [
        np.stack([one, one**2, one * length, one * np.sqrt(length), one > 0], axis=1)
        for one in evidence.T
    ]


def _of_pair(left: Floats, right: Floats) -> Floats:
    """Of neighbours, ``left`` (end, strand, evidence) and ``right`` (start, strand, evidence)."""
    gap = right[:, 0] - left[:, 0]
    columns = [
        np.ones_like(gap),
        left[:, 1] != right[:, 1],
        np.clip(gap, _SHORTEST_GAP, _LONGEST_GAP),
        np.isin(gap, _OPERON_GAPS),
        (left[:, 2] > 0) & (right[:, 2] > 0),
        left[:, 2] * right[:, 2],
        *(gap < nt for nt in GAP_NT),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _beside(left: Floats, right: Floats) -> Floats:
    """Mean evidence of neighbours."""
    mean: Floats = (left[:, 2] + right[:, 2]) / 2
    return mean


def _highest(evidence: Floats, record_index: IntArray, at: IntArray) -> Floats:
    """The highest values of every record and column, falling: (records, columns, _HIGHEST)."""
    found = np.full((len(at), evidence.shape[1], _HIGHEST), -np.inf)
    counts = np.diff(np.append(at, len(record_index)))
    for column, values in enumerate(evidence.T):
        falling = values[np.lexsort((-values, record_index))]
        for place in range(_HIGHEST):
            there = counts > place
            found[there, column, place] = falling[at[there] + place]
    return found
