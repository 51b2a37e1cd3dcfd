"""Regions of records whose phages are known → how many are false, and what q-values are worth."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.insertions import Placed
from virnuc_dask.lab.regions import log_ratios, record_lengths
from virnuc_dask.lab.taught import Flags
from virnuc_dask.modelsets.calibration import probability
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.gene_sums import GeneColumns, GeneSums
from virnuc_dask.modelsets.manifest import GENES
from virnuc_dask.modelsets.region_model import Floats, RegionModel
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.regions import evidence_of, find, of_regions

SHARES, LEVELS = (0.1, 0.01), (0.01, 0.05, 0.1)  # of contigs with a phage; q-values
_SAMPLES = 40
_DECIMALS = 4

IntArray = NDArray[np.int64]


class Found(NamedTuple):
    """Regions in records that are not called viruses as a whole."""

    record: IntArray
    evidence: Floats
    is_phage: Flags  # more than half of its genes are
    length_nt: IntArray  # of every record; 0 of one that is called a virus


def find_regions(
    genes: Placed, columns: GeneColumns, contig_model: ContigModel, rule: CallRule
) -> Found:
    """Find regions as a run does; ``columns`` are of all genes of the training."""
    model, length_nt = contig_model.regions, record_lengths(genes)
    if model is None:
        raise ValueError("a contig model without regions finds none")
    ratio = log_ratios(genes, model, columns.evidence)
    inside, at = of_regions(genes["record"], find(ratio, genes["record"], model)[1])
    record, genes_inside = genes["record"][inside], np.diff(np.append(at, len(inside)))
    viral = np.add.reduceat(genes["is_viral"][inside], at, dtype=np.int64)
    is_virus = _called(genes, columns, length_nt, contig_model, rule)
    rows = ~is_virus[record[at]]
    return Found(
        record[at][rows],
        evidence_of(ratio[inside], at)[rows],
        (2 * viral > genes_inside)[rows],
        np.where(is_virus, 0, length_nt),
    )


def _called(
    genes: Placed, columns: GeneColumns, length_nt: IntArray, model: ContigModel, rule: CallRule
) -> Flags:
    """Which records are called viruses, by all of their genes."""
    taken = {of.name: getattr(columns, of.name)[genes["gene"]] for of in fields(columns)}
    placed = replace(GeneColumns(**taken), start=genes["start"], end=genes["end"])
    sums = GeneSums.of(placed, genes["record"])
    verdict = model.judge(sums, length_nt.astype(np.float64), GENES)
    is_virus: Flags = probability(verdict.evidence) >= rule.threshold(length_nt)
    return is_virus & (verdict.reliability >= rule.reliable)


def rated(
    contig_model: ContigModel, alone: Placed, columns: GeneColumns, rule: CallRule
) -> ContigModel:
    """The same, knowing of its regions how many are false, from prokaryotes ``alone``."""
    if contig_model.regions is None:
        return contig_model
    found = find_regions(alone, columns, contig_model, rule)
    regions = replace(contig_model.regions, false_rates=rates(found))
    return replace(contig_model, regions=regions)


def rates(hosts: Found) -> Floats:
    """`RegionModel.false_rates`, from records without a phage.

    One more than was found counts at each knot: none is claimed to be rarer than could be seen.
    """
    evidence = np.sort(hosts.evidence)
    values, first = np.unique(evidence, return_index=True)
    # Just above each region there is one less.
    at = np.append(min([0.0, *values[:1]]), np.nextafter(values, np.inf))
    above = len(evidence) - np.append(first, len(evidence))
    return np.stack([at, (above + 1) / max(int(hosts.length_nt.sum()), 1) * 1e6])


def discoveries(
    model: RegionModel, hosts: Found, insertions: Found, seed: int = 0
) -> dict[str, dict[str, dict[str, float]]]:
    """By share of contigs with a phage, and q-value: how many regions are called.

    Of those the share in which there is no phage, and of phages in records that are not called
    viruses the share that is found: means of samples of all hosts and insertions drawn anew.
    """
    rng, found, all_of_them = np.random.default_rng(seed), {}, len(insertions.length_nt)
    for share in SHARES:
        many = round(len(hosts.length_nt) * share / (1 - share))
        drawn = [
            rng.choice(all_of_them, min(max(many, 1), all_of_them), replace=False)
            for _ in range(_SAMPLES)
        ]
        means = np.mean([_discovered(model, hosts, insertions, of) for of in drawn], axis=0)
        found[str(share)] = {
            str(level): dict(zip(("regions", "false", "recall"), of.tolist(), strict=True))
            for level, of in zip(LEVELS, means.round(_DECIMALS), strict=True)
        }
    return found


def _discovered(model: RegionModel, hosts: Found, insertions: Found, drawn: IntArray) -> Floats:
    """(levels, 3): regions that are called, the share of false ones, and of phages found."""
    rows, length_nt = np.isin(insertions.record, drawn), insertions.length_nt[drawn]
    is_phage = np.append(hosts.is_phage, insertions.is_phage[rows])
    knot = model.knot(np.append(hosts.evidence, insertions.evidence[rows]))
    regions = np.bincount(knot, minlength=model.false_rates.shape[1])
    q_value = model.q_values(regions, int(hosts.length_nt.sum() + length_nt.sum()))[knot]
    called = q_value <= np.array(LEVELS)[:, None]
    count, true = called.sum(axis=1), (called & is_phage).sum(axis=1)
    false, phages = (count - true) / np.maximum(count, 1), max(np.count_nonzero(length_nt), 1)
    return np.stack([count, false, true / phages], axis=1)
