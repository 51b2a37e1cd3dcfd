"""Genes of records → what they add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.tables.vectors import from_column

Floats = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Bounds between classes of length of a gene, and of the distance to the next gene, in nt. Genes of
# one operon overlap by 1 or 4 bases.
_GENE_NT = (150, 300, 450, 600, 900, 1200, 1800, 3000)
_GAP_NT = (-30, -5, 0, 20, 60, 150, 300, 600)
_SCORES = ("coding_score", "start_score", "rbs_score", "upstream_score", "type_score")
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

        def of(name: str) -> Any:
            return table[name].to_numpy()

        return cls(
            start=of("start"),
            end=of("end"),
            strand=np.where(of("strand") == "+", 1, -1).astype(np.int8),
            is_partial=of("partial_left") | of("partial_right"),
            start_type=of("start_type").astype(np.str_),
            has_rbs=of("rbs"),
            translation_table=of("translation_table"),
            is_viral_model=np.isin(of("model"), viral_models),
            confidence=of("confidence"),
            scores=np.stack([of(name) for name in _SCORES], axis=1),
            evidence=from_column(table, "evidence"),
        )


@dataclass(frozen=True, slots=True)
class GeneSums:
    """What the genes of each record add up to; a row a record that has genes."""

    record_index: IntArray
    genes: Mapping[str, Floats]  # sums over genes, (records,) each
    pairs: Mapping[str, Floats]  # sums over pairs of neighbours, (records,) each
    evidence: Mapping[str, Floats]  # sums over genes, (records, columns) each
    largest: Floats  # of a gene's length, each column of evidence, neighbours' mean evidence
    smallest: Floats  # of a gene's length and each column of evidence
    highest: Floats  # (records, columns, _HIGHEST), falling, -inf where a record has fewer genes

    @classmethod
    def of(cls, genes: GeneColumns, record_index: IntArray) -> Self:
        """Sum genes; ``record_index`` is of each gene, ascending."""
        at = np.flatnonzero(np.diff(record_index, prepend=-1))
        length = (genes.end - genes.start).astype(np.float64)
        evidence = genes.evidence.astype(np.float64)
        is_pair = np.diff(record_index) == 0
        beside = np.full(len(length), -np.inf)
        beside[:-1][is_pair] = ((evidence[:-1, 0] + evidence[1:, 0]) / 2)[is_pair]
        extremes = np.concatenate([length[:, None], evidence], axis=1)
        return cls(
            record_index=record_index[at],
            genes=_summed(_of_gene(genes, length), at),
            pairs=_summed(_of_pair(genes, evidence[:, 0], is_pair), at),
            evidence=_summed(_of_evidence(evidence, length[:, None]), at),
            largest=np.maximum.reduceat(np.concatenate([extremes, beside[:, None]], axis=1), at),
            smallest=np.minimum.reduceat(extremes, at),
            highest=_highest(evidence, record_index, at),
        )

    def __len__(self) -> int:
        return len(self.record_index)


def _summed(columns: Mapping[str, NDArray[Any]], at: IntArray) -> dict[str, Floats]:
    return {
        name: np.add.reduceat(values.astype(np.float64), at) for name, values in columns.items()
    }


def _of_gene(genes: GeneColumns, length: Floats) -> dict[str, NDArray[Any]]:
    return {
        "genes": np.ones_like(length),
        "length_nt": length,
        "length_squared": length**2,
        "strand": genes.strand,
        "partial": genes.is_partial,
        "rbs": genes.has_rbs,
        **{start.lower(): genes.start_type == start for start in ("ATG", "GTG", "TTG")},
        "other_table": genes.translation_table != 11,
        "viral_model": genes.is_viral_model,
        "confidence": genes.confidence,
        **dict(zip(_SCORES, genes.scores.T, strict=True)),
        **{f"genes_below_{nt}_nt": length < nt for nt in _GENE_NT},
    }


def _of_evidence(evidence: Floats, length: Floats) -> dict[str, NDArray[Any]]:
    return {
        "sum": evidence,
        "squared": evidence**2,
        "by_length": evidence * length,
        "by_root_length": evidence * np.sqrt(length),
        "positive": evidence > 0,
    }


def _of_pair(genes: GeneColumns, evidence: Floats, is_pair: Flags) -> dict[str, NDArray[Any]]:
    """Of each gene and the next, 0 where that is another record's."""
    gap = (genes.start[1:] - genes.end[:-1]).astype(np.float64)
    columns = {
        "pairs": np.ones_like(gap),
        "switches": genes.strand[:-1] != genes.strand[1:],
        "gap_nt": np.clip(gap, _SHORTEST_GAP, _LONGEST_GAP),
        "operon_gaps": np.isin(gap, _OPERON_GAPS),
        "both_viral": (evidence[:-1] > 0) & (evidence[1:] > 0),
        "product": evidence[:-1] * evidence[1:],
        **{f"gaps_below_{nt}_nt": gap < nt for nt in _GAP_NT},
    }
    return {name: np.append(np.where(is_pair, of, 0), 0) for name, of in columns.items()}


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
