"""Sums over a record's genes → the numbers that its contig model weighs."""

from __future__ import annotations

import numpy as np

from virnuc_dask.modelsets.gene_sums import Floats, GeneSums

_OF_A_RECORD, _OF_A_COLUMN = 44, 9  # numbers of a record, and of each column of its evidence


def feature_count(columns: int) -> int:
    """How many numbers a record has, with so many columns of evidence."""
    return _OF_A_RECORD + _OF_A_COLUMN * columns


def contig_features(sums: GeneSums, length_nt: Floats) -> Floats:
    """Numbers of each record, finite: the values of `named_features`, side by side."""
    return np.stack(list(named_features(sums, length_nt).values()), axis=1)


def named_features(sums: GeneSums, length_nt: Floats) -> dict[str, Floats]:
    """Numbers of each record with genes, by name: of these, then of each column of evidence."""
    genes, pairs = sums.genes, sums.pairs
    count, coding = genes["genes"], genes["length_nt"]
    neighbours = np.maximum(pairs["pairs"], 1)
    kb = length_nt / 1000
    mean_nt = coding / count
    shares = ("rbs", "atg", "gtg", "ttg", "other_table", "viral_model", "confidence")
    features = {
        "log_length_nt": np.log(length_nt),
        "log_genes": np.log(count),
        "genes_a_kb": count / kb,
        "coding_density": coding / length_nt,
        "mean_gene_nt": mean_nt,
        "sd_gene_nt": _deviation(mean_nt, genes["length_squared"] / count),
        "longest_gene_nt": sums.largest[:, 0],
        "shortest_gene_nt": sums.smallest[:, 0],
        "strand_bias": np.abs(genes["strand"]) / count,
        "partial_a_kb": genes["partial"] / kb,
        **{name: genes[name] / count for name in shares},
        "coding_score_a_nt": genes["coding_score"] / coding,
        **{
            f"{of}_score": genes[f"{of}_score"] / count
            for of in ("start", "rbs", "upstream", "type")
        },
        **{name: of / count for name, of in genes.items() if name.startswith("genes_below")},
        **{name: pairs[name] / neighbours for name in ("switches", "gap_nt", "operon_gaps")},
        **{name: of / neighbours for name, of in pairs.items() if name.startswith("gaps_below")},
        "both_viral": pairs["both_viral"] / neighbours,
        "product": pairs["product"] / neighbours,
        "highest_neighbours": np.where(pairs["pairs"] > 0, sums.largest[:, -1], sums.largest[:, 1]),
    }
    for column in range(sums.highest.shape[1]):
        of_column = _of_evidence(sums, column)
        features |= {f"{name}_{column}": values for name, values in of_column.items()}
    return features


def _of_evidence(sums: GeneSums, column: int) -> dict[str, Floats]:
    totals = {name: values[:, column] for name, values in sums.evidence.items()}
    count, coding = sums.genes["genes"], sums.genes["length_nt"]
    mean = totals["sum"] / count
    highest = sums.highest[:, column]
    there = np.isfinite(highest)
    return {
        "mean": mean,
        "sd": _deviation(mean, totals["squared"] / count),
        "by_length": totals["by_length"] / coding,
        # As if genes had 900 nt.
        "by_root_length": totals["by_root_length"] / np.sqrt(900 * count * coding),
        "sum_over_root": totals["sum"] / np.sqrt(count),
        "positive": totals["positive"] / count,
        "largest": sums.largest[:, 1 + column],
        "smallest": sums.smallest[:, 1 + column],
        "highest": np.where(there, highest, 0).sum(axis=1) / there.sum(axis=1),
    }


def _deviation(mean: Floats, mean_square: Floats) -> Floats:
    deviation: Floats = np.sqrt(np.maximum(mean_square - mean**2, 0))
    return deviation
