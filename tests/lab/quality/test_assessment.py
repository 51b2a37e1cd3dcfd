"""Figures of a made-up scored run."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from virnuc_dask.lab.quality.assessment import (
    assess,
    false_discoveries,
    reliability,
)
from virnuc_dask.lab.quality.scored import Level


@pytest.fixture(scope="module")
def run(made_up_run):
    return made_up_run(calibrated=True)


@pytest.fixture(scope="module")
def figures(run):
    return assess(run)


@pytest.fixture(scope="module")
def of_genes(made_up_run):
    return made_up_run(calibrated=True, power=0.5, genes=True)


def test_every_viral_group_meets_every_other_group(run, figures):
    pairs = {(p["virus"], p["others"]): p for p in figures["pairs"]["chunks"]}
    assert set(pairs) == {
        (v, o) for v in ("phages", "eukaryotic") for o in ("bacteria", "shuffled")
    }
    pair = pairs["eukaryotic", "bacteria"]
    assert (pair["n_virus"], pair["n_others"]) == (45, 90)
    kept = run.chunks.where(np.isin(run.labelled.group_of[run.chunks.record], (1, 2)))
    assert pair["auroc"] == pytest.approx(roc_auc_score(kept.is_virus, kept.score), abs=1e-6)
    low, high = pair["auroc_interval"]
    assert low < pair["auroc"] < high


def test_each_group_says_how_much_of_it_is_called_virus(run, figures):
    shuffled = figures["groups"][3]
    assert (shuffled["name"], shuffled["class"]) == ("shuffled", "others")
    called = int(run.chunks.called[run.labelled.group_of[run.chunks.record] == 3].sum())
    expected = {"total": 36, "scored": 6, "called_virus": called}
    shares = {"share": called / 36, "share_of_scored": called / 6}
    assert shuffled["chunks"] == pytest.approx(expected | shares, abs=1e-6)


def test_lengths_are_kept_apart(figures):
    contigs = figures["by_length"]["contigs"]
    spans = [(c["from_nt"], c["below_nt"]) for c in contigs]
    assert spans == [(0, 500), (500, 1_000), (1_000, 3_000), (10_000, None)]
    whole = figures["levels"]["contigs"]
    for side in ("n_virus", "n_others"):
        assert sum(c[side] for c in contigs) == whole[side]
    full, shorter = figures["by_length"]["chunks"]
    assert (full["chunk"], shorter["chunk"]) == ("full", "shorter")
    assert (full["n_virus"], shorter["n_virus"]) == (70, 35)
    assert [f["n_virus"] for f in figures["by_length"]["frames"]] == [140, 70]


def test_mistakes_are_the_worst_ones_first(run, figures):
    contigs = run.contigs
    false = np.flatnonzero(~contigs.is_virus & contigs.called)
    worst = false[np.argsort(-contigs.score[false])][:5]
    shown = figures["mistakes"]["called_virus"]
    assert [m["record_id"] for m in shown] == [f"r{i}" for i in worst]
    assert {m["group"] for m in shown} <= {"bacteria", "shuffled"}
    scores = [m["score"] for m in figures["mistakes"]["missed"]]
    assert scores == sorted(scores)
    assert 0 < len(scores) <= 5
    assert max(scores) < 0.5


def test_calibration_is_judged_where_there_are_probabilities(figures, made_up_run):
    found = figures["calibration"]
    assert set(found) == {"chunks", "contigs", "false_discovery"}
    assert 0 < found["contigs"]["expected_calibration_error"] < 0.3
    assert sum(b["n"] for b in found["chunks"]["bins"]) == 201
    rates = {(r["prevalence"], r["q_value"]) for r in found["false_discovery"]}
    assert rates == {(p, q) for p in (0.01, 0.1, 0.5) for q in (0.05, 0.1)}
    assert assess(made_up_run(calibrated=False))["calibration"] is None


def test_false_discoveries_are_those_of_the_probabilities():
    """Two normal distributions, whose likelihood ratio is known, keep what the q-value says."""
    is_virus = np.arange(20_000) % 2 == 0
    evidence = 2 * (np.random.default_rng(0).normal(size=20_000) + np.where(is_virus, 1, -1))
    likely = 1 / (1 + np.exp(-evidence))
    rows = np.arange(20_000)
    level = Level(likely, likely > 0.5, is_virus, rows, rows, likely)
    assert reliability(level)["expected_calibration_error"] < 0.01
    for found in false_discoveries(level):
        if found["prevalence"] >= 0.1:
            assert found["false_discovery_rate"] == pytest.approx(found["q_value"], abs=0.02)


def test_what_a_set_is_unsure_of_is_counted_apart_and_is_no_mistake(of_genes, monkeypatch):
    monkeypatch.setattr("virnuc_dask.lab.quality.assessment._MISTAKES", 100)
    contigs, found = of_genes.contigs, assess(of_genes)
    whole = found["levels"]["contigs"]
    assert whole["unsure_virus"] == (contigs.unsure & contigs.is_virus).sum() > 0
    assert whole["unsure_others"] == (contigs.unsure & ~contigs.is_virus).sum() > 0
    recall = contigs.called[contigs.is_virus].mean()
    assert whole["recall"] == pytest.approx(recall, abs=1e-6), "an unsure virus is not found"
    assert sum(g["contigs"]["unsure"] for g in found["groups"]) == contigs.unsure.sum()
    unsure = {f"r{i}" for i in np.flatnonzero(contigs.unsure)}
    assert not unsure & {m["record_id"] for m in found["mistakes"]["missed"]}


def test_a_contig_of_which_a_region_is_viral_is_not_called_and_is_counted_apart(of_genes):
    before, region = assess(of_genes), ~of_genes.contigs.called & of_genes.contigs.is_scored
    held = replace(of_genes, contigs=replace(of_genes.contigs, region=region))
    whole, former = assess(held)["levels"]["contigs"], before["levels"]["contigs"]
    counted = {name: whole.pop(name) for name in ("region_virus", "region_others")}
    assert whole == former, "figures stay"
    assert sum(counted.values()) == region.sum() > 0
