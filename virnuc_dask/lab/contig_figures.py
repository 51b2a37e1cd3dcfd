"""Evidence of contigs of known sides → how good it is, by length and by kind."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.quality.figures import Flags, auroc, calibration_error
from virnuc_dask.lab.recipe import NOISE, PROPHAGE, VIRUSES
from virnuc_dask.modelsets.calibration import estimate_prevalence, probability, q_values
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
NEAR = 1.3  # of about a length: no more than so many times shorter or longer
_FEWEST = 20
_BINS = 10
_NOMINAL = 0.1
_SAMPLES = 20
_DECIMALS = 4
_LONG_NT = 3000


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
        near = np.abs(np.log(contigs.length_nt / length)) < np.log(NEAR)
        by_length[str(length)] = _of_length(contigs.take(near))
    return {"by_length": by_length, "calls": _calls(contigs, rule)}


def separation(evidence: Floats, is_virus: Flags) -> dict[str, float]:
    """AUROC, and recall where 1 % and 5 % of the others are called too."""
    found = {"auroc": auroc(evidence, is_virus)}
    for percent in (1, 5):
        highest = np.quantile(evidence[~is_virus], 1 - percent / 100)
        found[f"recall_at_{percent}"] = float((evidence[is_virus] > highest).mean())
    return _rounded(found)


def _rounded(found: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), _DECIMALS) for name, value in found.items()}


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
    return _rounded({"fdr": false, "recall": recall})


def _of_length(contigs: Judged) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (viruses, others) in PAIRS.items():
        evidence, is_virus = _sides(contigs, viruses, others)
        if _are_enough(is_virus):
            counts = {"viruses": int(is_virus.sum()), "others": int((~is_virus).sum())}
            found[name] = separation(evidence, is_virus) | counts
    evidence, is_virus = _sides(contigs, ("phage",), ("prokaryote",))
    if _are_enough(is_virus):
        error = calibration_error(probability(evidence), is_virus, _BINS)
        found["calibration_error"] = round(error, _DECIMALS)
        found["q_values"] = {
            str(share): discoveries(evidence, is_virus, share) for share in PREVALENCES
        }
    return found


def _sides(
    contigs: Judged, viruses: tuple[str, ...], others: tuple[str, ...]
) -> tuple[Floats, Flags]:
    """Evidence of these kinds, and which of it is a virus's."""
    chosen = np.isin(contigs.kind, (*viruses, *others))
    return contigs.evidence[chosen], np.isin(contigs.kind[chosen], viruses)


def _are_enough(is_virus: Flags) -> bool:
    return bool(min(is_virus.sum(), (~is_virus).sum()) >= _FEWEST)


def _calls(contigs: Judged, rule: CallRule) -> dict[str, dict[str, float]]:
    """Of each kind and of contigs short and long: shares called virus, and unsure."""
    is_long = contigs.length_nt >= _LONG_NT
    found = {}
    for name, rows in ((f"below {_LONG_NT} nt", ~is_long), (f"{_LONG_NT} nt and more", is_long)):
        for kind in (*VIRUSES, PROPHAGE, "prokaryote", "plasmid", "eukaryote", NOISE):
            chosen = rows & (contigs.kind == kind)
            if chosen.any():
                found[f"{kind}, {name}"] = _called(contigs.take(chosen), rule)
    return found


def _called(contigs: Judged, rule: CallRule) -> dict[str, float]:
    unsure = contigs.reliability < rule.reliable
    virus = (probability(contigs.evidence) >= rule.threshold(contigs.length_nt)) & ~unsure
    shares = {
        "virus": virus.mean(),
        "unsure": unsure.mean(),
        "virus_a_megabase": virus.sum() / contigs.length_nt.sum() * 1e6,
    }
    return {"contigs": len(virus), **_rounded(shares)}
