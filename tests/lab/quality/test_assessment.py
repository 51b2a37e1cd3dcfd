"""Figures of a made-up scored run."""

from dataclasses import replace

import numpy as np
import pytest

from virnuc_dask.lab.quality.assessment import assess


@pytest.fixture(scope="module")
def run(made_up_run):
    return made_up_run(calibrated=True)


@pytest.fixture(scope="module")
def figures(run):
    return assess(run)


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
    assert 0 < found["expected_calibration_error"] < 0.3
    assert sum(b["n"] for b in found["bins"]) == 67
    rates = {(r["prevalence"], r["q_value"]) for r in found["false_discovery"]}
    assert rates == {(p, q) for p in (0.01, 0.1, 0.5) for q in (0.05, 0.1)}
    assert assess(made_up_run(calibrated=False))["calibration"] is None


def test_what_a_set_is_unsure_of_is_counted_apart_and_is_no_mistake(made_up_run, monkeypatch):
    monkeypatch.setattr("virnuc_dask.lab.quality.assessment._MISTAKES", 100)
    of_genes = made_up_run(calibrated=True, power=0.5, genes=True)
    contigs, found = of_genes.contigs, assess(of_genes)
    whole = found["contigs"]
    assert whole["unsure_virus"] == (contigs.unsure & contigs.is_virus).sum() > 0
    assert whole["unsure_others"] == (contigs.unsure & ~contigs.is_virus).sum() > 0
    recall = contigs.called[contigs.is_virus].mean()
    assert whole["recall"] == pytest.approx(recall, abs=1e-6), "an unsure virus is not found"
    assert sum(g["unsure"] for g in found["groups"]) == contigs.unsure.sum()
    unsure = {f"r{i}" for i in np.flatnonzero(contigs.unsure)}
    assert not unsure & {m["record_id"] for m in found["mistakes"]["missed"]}


def test_a_contig_of_which_a_region_is_viral_is_not_called_and_is_counted_apart(run):
    before, region = assess(run), ~run.contigs.called & run.contigs.is_scored
    whole = assess(run._replace(contigs=replace(run.contigs, region=region)))["contigs"]
    counted = [whole.pop(name) for name in ("region_virus", "region_others")]
    assert sum(counted) == region.sum() > 0
    assert whole.items() <= before["contigs"].items(), "figures stay"
