"""Sums over a record's genes → the numbers that its contig model weighs."""

from __future__ import annotations

import numpy as np

from virnuc_dask.modelsets.gene_sums import (
    EVIDENCE_TOTALS,
    GAP_NT,
    GENE_NT,
    GENE_TOTALS,
    PAIR_TOTALS,
    Floats,
    GeneSums,
)

# Numbers of one record, however many columns of evidence there are.
STRUCTURE = (
    "log_length_nt",
    "log_genes",
    "genes_a_kb",
    "coding_density",
    "mean_gene_nt",
    "sd_gene_nt",
    "longest_gene_nt",
    "shortest_gene_nt",
    "strand_bias",
    "partial_a_kb",
    "rbs",
    "atg",
    "gtg",
    "ttg",
    "other_table",
    "viral_model",
    "confidence",
    "coding_score_a_nt",
    "start_score",
    "rbs_score",
    "upstream_score",
    "type_score",
    *(f"genes_below_{nt}_nt" for nt in GENE_NT),
    "switches",
    "gap_nt",
    "operon_gaps",
    *(f"gaps_below_{nt}_nt" for nt in GAP_NT),
)
NEIGHBOURS = ("both_viral", "product", "highest_neighbours")
POOLS = (
    "mean",
    "sd",
    "by_length",
    "by_root_length",
    "sum_over_root",
    "positive",
    "largest",
    "smallest",
    "highest",
)


def contig_features(sums: GeneSums, length_nt: Floats) -> Floats:
    """Numbers of each record: `STRUCTURE`, `NEIGHBOURS`, then `POOLS` of each column of evidence.

    Parameters
    ----------
    sums
        Of records with genes.
    length_nt
        Of each of these records.

    Returns
    -------
    ndarray, shape (len(sums), len(contig_feature_names(columns)))
        Finite.
    """
    genes, pairs, evidence = _named(sums)
    count, coding = genes["genes"], genes["length_nt"]
    neighbours = np.maximum(pairs["pairs"], 1)
    kb = length_nt / 1000
    mean_nt = coding / count
    structure = [
        np.log(length_nt),
        np.log(count),
        count / kb,
        coding / length_nt,
        mean_nt,
        _deviation(mean_nt, genes["length_squared"] / count),
        sums.largest[:, 0],
        sums.smallest[:, 0],
        np.abs(genes["strand"]) / count,
        genes["partial"] / kb,
        *(genes[name] / count for name in ("rbs", "atg", "gtg", "ttg", "other_table")),
        genes["viral_model"] / count,
        genes["confidence"] / count,
        genes["coding_score"] / coding,
        *(genes[f"{name}_score"] / count for name in ("start", "rbs", "upstream", "type")),
        *(genes[f"genes_below_{nt}_nt"] / count for nt in GENE_NT),
        *(pairs[name] / neighbours for name in ("switches", "gap_nt", "operon_gaps")),
        *(pairs[f"gaps_below_{nt}_nt"] / neighbours for nt in GAP_NT),
        pairs["both_viral"] / neighbours,
        pairs["product"] / neighbours,
        np.where(pairs["pairs"] > 0, sums.largest[:, -1], sums.largest[:, 1]),
    ]
    pools = [
        pool
        for column in range(evidence.shape[1])
        for pool in _pools(sums, evidence[:, column], column, count, coding)
    ]
    return np.stack([*structure, *pools], axis=1)


def contig_feature_names(columns: int) -> tuple[str, ...]:
    """What `contig_features` gives for so many columns of evidence."""
    pools = (f"{pool}_{column}" for column in range(columns) for pool in POOLS)
    return (*STRUCTURE, *NEIGHBOURS, *pools)


def _pools(
    sums: GeneSums, evidence: Floats, column: int, count: Floats, coding: Floats
) -> list[Floats]:
    totals = dict(zip(EVIDENCE_TOTALS, evidence.T, strict=True))
    mean = totals["sum"] / count
    highest = sums.highest[:, column]
    there = np.isfinite(highest)
    return [
        mean,
        _deviation(mean, totals["squared"] / count),
        totals["by_length"] / coding,
        # As if genes had 900 nt.
        totals["by_root_length"] / np.sqrt(900 * count * coding),
        totals["sum"] / np.sqrt(count),
        totals["positive"] / count,
        sums.largest[:, 1 + column],
        sums.smallest[:, 1 + column],
        np.where(there, highest, 0).sum(axis=1) / there.sum(axis=1),
    ]


def _named(sums: GeneSums) -> tuple[dict[str, Floats], dict[str, Floats], Floats]:
    """Totals of genes and of pairs by name, and those of evidence, (records, columns, 5)."""
    genes, pairs = len(GENE_TOTALS), len(PAIR_TOTALS)
    evidence = sums.totals[:, genes:-pairs]
    return (
        dict(zip(GENE_TOTALS, sums.totals[:, :genes].T, strict=True)),
        dict(zip(PAIR_TOTALS, sums.totals[:, -pairs:].T, strict=True)),
        evidence.reshape(len(sums), -1, len(EVIDENCE_TOTALS)),
    )


def _deviation(mean: Floats, mean_square: Floats) -> Floats:
    deviation: Floats = np.sqrt(np.maximum(mean_square - mean**2, 0))
    return deviation
