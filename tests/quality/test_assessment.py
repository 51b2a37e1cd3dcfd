"""Figures of a made-up scored run."""

import json

import numpy as np
import pytest

from virnuc_dask.quality.assessment import assess, difference, false_discoveries, reliability
from virnuc_dask.quality.scored import Level


@pytest.fixture(scope="module")
def run(made_up_run):
    return made_up_run(calibrated=True)


@pytest.fixture(scope="module")
def figures(run):
    return assess(run)


def test_it_is_ready_for_json(figures):
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_what_has_no_score_is_counted_apart(figures):
    chunks = figures["levels"]["chunks"]
    assert (chunks["n_virus"], chunks["unscored_virus"]) == (105, 0)
    assert (chunks["n_others"], chunks["unscored_others"]) == (96, 30)
    low, high = chunks["auroc_interval"]
    assert low < chunks["auroc"] < high


def test_every_viral_group_meets_every_other_group(run, figures):
    pairs = {(p["virus"], p["others"]): p for p in figures["pairs"]}
    assert set(pairs) == {
        (v, o) for v in ("phages", "eukaryotic") for o in ("bacteria", "shuffled")
    }
    pair = pairs["eukaryotic", "bacteria"]
    assert (pair["n_virus"], pair["n_others"]) == (45, 90)
    kept = np.isin(run.labelled.group_of[run.chunks.record], (1, 2))
    virus, others = (run.chunks.score[kept & (run.chunks.is_virus == side)] for side in (1, 0))
    assert pair["auroc"] == pytest.approx((virus[:, None] > others).mean(), abs=1e-6)
    low, high = pair["auroc_interval"]
    assert low < pair["auroc"] < high


def test_each_group_says_how_much_of_it_is_called_virus(run, figures):
    shuffled = figures["groups"][3]
    assert (shuffled["name"], shuffled["class"]) == ("shuffled", "others")
    called = int(run.chunks.called[run.labelled.group_of[run.chunks.record] == 3].sum())
    chunks = shuffled["chunks"]
    assert (chunks["total"], chunks["scored"], chunks["called_virus"]) == (36, 6, called)
    assert chunks["share"] == pytest.approx(called / 36, abs=1e-6)
    assert chunks["share_of_scored"] == pytest.approx(called / 6, abs=1e-6)


def test_lengths_are_kept_apart(figures):
    contigs = figures["by_length"]["contigs"]
    assert [(c["from_nt"], c["below_nt"]) for c in contigs] == [
        (0, 500),
        (500, 1_000),
        (1_000, 3_000),
        (10_000, None),
    ]
    whole = figures["levels"]["contigs"]
    assert sum(c["n_virus"] + c["n_others"] for c in contigs) == (
        whole["n_virus"] + whole["n_others"]
    )
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
    missed = figures["mistakes"]["missed"]
    assert missed
    assert all(m["score"] < 0.5 for m in missed)


def test_calibration_is_judged_where_there_are_probabilities(figures):
    found = figures["calibration"]
    assert set(found) == {"chunks", "contigs", "false_discovery"}
    assert 0 < found["contigs"]["expected_calibration_error"] < 0.3
    assert sum(b["n"] for b in found["chunks"]["bins"]) == 201
    rates = {(r["prevalence"], r["q_value"]) for r in found["false_discovery"]}
    assert rates == {(p, q) for p in (0.01, 0.1, 0.5) for q in (0.05, 0.1)}


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


def test_without_a_calibration_there_is_nothing_to_judge(made_up_run):
    assert assess(made_up_run(calibrated=False))["calibration"] is None


def test_a_better_set_shows_in_the_paired_difference(made_up_run):
    first, better = (made_up_run(calibrated=False, power=power) for power in (0.5, 1.0))
    found = difference(better, first)
    low, high = found["interval"]
    assert 0 < low < found["auroc"] < high
    assert difference(first, first) == {"auroc": 0.0, "interval": [0.0, 0.0]}
