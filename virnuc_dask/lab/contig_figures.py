"""Evidence of contigs of known sides → how good it is, by length and by kind."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.recipe import NOISE, PROPHAGE, VIRUSES
from virnuc_dask.modelsets.calibration import (
    estimate_prevalence,
    probability,
    q_values,
)
from virnuc_dask.modelsets.gene_sums import Floats
from virnuc_dask.stages.calls import CallRule

LENGTHS_NT = (300, 500, 1_000, 3_000, 5_000, 10_000, 20_000)
PAIRS = {
    "phage against prokaryote": (("phage",), ("prokaryote",)),
    "phage against plasmid": (("phage",), ("plasmid",)),
    "eukaryotic virus against prokaryote and eukaryote": (
        ("eukaryotic_virus",),
        ("prokaryote", "eukaryote"),
    ),
    "prophage against prokaryote": ((PROPHAGE,), ("prokaryote",)),
}
PREVALENCES = (0.5, 0.1, 0.01)
_NEAR = 1.3  # of about a length: no more than so many times shorter or longer
_FEWEST = 20
_BINS = 10
_NOMINAL = 0.1
_SAMPLES = 20
_DECIMALS = 4

Flags = NDArray[np.bool_]


class Judged(NamedTuple):
    """Contigs and what is said of them, column by column."""

    kind: NDArray[np.str_]  # a kind of genome, noise, or prophage
    length_nt: Floats
    evidence: Floats
    reliability: Floats

    def take(self, rows: Flags) -> Judged:
        """Some of them."""
        return Judged(self.kind[rows], *(column[rows] for column in self[1:]))


def figures(contigs: Judged, rule: CallRule) -> dict[str, Any]:
    """All figures, by length in nt; of what is not there, or of too few, none."""
    by_length = {}
    for length in LENGTHS_NT:
        near = np.abs(np.log(contigs.length_nt / length)) < np.log(_NEAR)
        by_length[str(length)] = _of_length(contigs.take(near))
    return {"by_length": by_length, "calls": _calls(contigs, rule)}


def separation(evidence: Floats, is_virus: Flags) -> dict[str, float]:
    """AUROC, and recall where 1 % and 5 % of the others are called too."""
    from sklearn.metrics import roc_auc_score

    found = {"auroc": float(roc_auc_score(is_virus, evidence))}
    for percent in (1, 5):
        highest = np.quantile(evidence[~is_virus], 1 - percent / 100)
        found[f"recall_at_{percent}"] = float((evidence[is_virus] > highest).mean())
    return {name: round(value, _DECIMALS) for name, value in found.items()}


def calibration_error(evidence: Floats, is_virus: Flags) -> float:
    """Mean difference of probability and share of viruses, both sides as heavy, in ten bins."""
    weight = np.where(is_virus, 0.5 / is_virus.sum(), 0.5 / (~is_virus).sum())
    chance = probability(evidence)
    place = np.minimum((chance * _BINS).astype(np.int64), _BINS - 1)
    off = np.bincount(place, weight * (chance - is_virus), _BINS)
    return round(float(np.abs(off).sum()), _DECIMALS)


def discoveries(
    evidence: Floats, is_virus: Flags, prevalence: float, seed: int = 0
) -> dict[str, float]:
    """False discoveries and recall at a q-value of 0.1 in samples with this share of viruses.

    The mean of samples that have all others and viruses drawn anew.
    """
    rng = np.random.default_rng(seed)
    others = evidence[~is_virus]
    count = max(1, round(len(others) * prevalence / (1 - prevalence)))
    found = []
    for _ in range(_SAMPLES):
        sample = np.concatenate([rng.choice(evidence[is_virus], count), others])
        called = q_values(sample, estimate_prevalence(sample)) <= _NOMINAL
        found.append((called[count:].sum() / max(int(called.sum()), 1), called[:count].mean()))
    false, recall = np.mean(found, axis=0)
    return {"fdr": round(float(false), _DECIMALS), "recall": round(float(recall), _DECIMALS)}


def _of_length(contigs: Judged) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (viruses, others) in PAIRS.items():
        chosen = contigs.take(np.isin(contigs.kind, (*viruses, *others)))
        is_virus = np.isin(chosen.kind, viruses)
        if _are_enough(is_virus):
            found[name] = separation(chosen.evidence, is_virus) | _numbers(is_virus)
    chosen = contigs.take(np.isin(contigs.kind, ("phage", "prokaryote")))
    is_virus = chosen.kind == "phage"
    if _are_enough(is_virus):
        found["calibration_error"] = calibration_error(chosen.evidence, is_virus)
        found["q_values"] = {
            str(share): discoveries(chosen.evidence, is_virus, share) for share in PREVALENCES
        }
    return found


def _calls(contigs: Judged, rule: CallRule) -> dict[str, dict[str, float]]:
    """Of each kind and of contigs short and long: shares called virus, and unsure."""
    found = {}
    for name, rows in (
        ("below 3000 nt", contigs.length_nt < 3000),
        ("3000 nt and more", contigs.length_nt >= 3000),
    ):
        for kind in (*VIRUSES, PROPHAGE, "prokaryote", "plasmid", "eukaryote", NOISE):
            chosen = contigs.take(rows & (contigs.kind == kind))
            if len(chosen.evidence):
                unsure = chosen.reliability < rule.reliable
                virus = probability(chosen.evidence) >= rule.threshold(chosen.length_nt)
                virus &= ~unsure
                found[f"{kind}, {name}"] = {
                    "contigs": len(chosen.evidence),
                    "virus": round(float(virus.mean()), _DECIMALS),
                    "unsure": round(float(unsure.mean()), _DECIMALS),
                    "virus_a_megabase": round(
                        float(virus.sum() / chosen.length_nt.sum() * 1e6), _DECIMALS
                    ),
                }
    return found


def _are_enough(is_virus: Flags) -> bool:
    return bool(min(is_virus.sum(), (~is_virus).sum()) >= _FEWEST)


def _numbers(is_virus: Flags) -> dict[str, int]:
    return {"viruses": int(is_virus.sum()), "others": int((~is_virus).sum())}
