import json

import numpy as np
import pytest
import torch
from ngram_trials import (
    TABLES,
    Series,
    Trial,
    TrialWindows,
    ablation,
    learning_curve,
    run_series,
    short,
    with_viral_share,
    without_table,
)

from virnuc_dask.pretraining.genes import TRAIN
from virnuc_dask.pretraining.learning import validation_chunks
from virnuc_dask.pretraining.recipe import NgramRecipe

TINY = NgramRecipe(
    members=3, width=4, hidden=8, steps=90, batch=64, averaging=0.8, table_learning_rate=0.1
)


@pytest.fixture
def series(material, tmp_path):
    return Series(material.parts, (300,), seed=1, folder=tmp_path / "trials")


def test_a_short_recipe_has_one_member_and_is_checked_along_the_way():
    recipe = short(TINY, 30)
    assert (recipe.members, recipe.steps, recipe.steps_between_checks) == (1, 30, 10)
    assert recipe.width == TINY.width


def test_a_smaller_share_of_the_viral_genomes_is_part_of_a_larger_one(material):
    genes = material.parts[TRAIN]
    shares = [with_viral_share(genes, share) for share in (0.25, 0.5, 1.0)]
    viral = [{gene.genome for gene in kept if gene.is_virus} for kept in shares]
    assert viral[0] < viral[1] < viral[2]
    assert shares[2] == genes
    assert all(sum(not gene.is_virus for gene in kept) == 72 for kept in shares)


def test_genomes_are_kept_whole(material):
    genes = material.parts[TRAIN]
    kept = {gene.name for gene in with_viral_share(genes, 0.5)}
    for genome in {gene.genome for gene in genes}:
        assert len({gene.name in kept for gene in genes if gene.genome == genome}) == 1


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_is_left_out_has_no_ngrams(material, table):
    samples = validation_chunks(material.parts[TRAIN], 300)
    blind = without_table(samples, table)
    assert len(blind.bags[table].ids) == 0
    assert len(blind.bags[table]) == len(samples.bags[table])
    others = set(TABLES) - {table}
    assert all(torch.equal(blind.bags[n].ids, samples.bags[n].ids) for n in others)
    assert without_table(samples, None) is samples


def test_windows_of_a_trial_lack_what_the_trial_lacks(material):
    trial = Trial("blind", TINY, without="codons")
    drawn = TrialWindows(material.parts[TRAIN], trial).draw(20, np.random.default_rng(0))
    assert len(drawn.bags["codons"].ids) == 0 < len(drawn.bags["six_mers"].ids)


def test_the_ablation_changes_one_thing_at_a_time():
    trials = ablation(TINY)
    assert [trial.name for trial in trials][:2] == ["whole", "without mutation"]
    assert {trial.without for trial in trials} == {None, *TABLES}
    for trial in trials[1:]:
        changed = [
            name for name in TINY.__slots__ if getattr(trial.recipe, name) != getattr(TINY, name)
        ]
        assert len(changed) + (trial.without is not None) == 1


@pytest.mark.slow
def test_a_series_learns_and_tells_of_every_trial(series):
    trials = [Trial("whole", short(TINY, 90)), *ablation(short(TINY, 6))[-1:]]
    learnt, blind = run_series(trials, series)
    assert (learnt["name"], learnt["viral_genomes"], learnt["other_genes"]) == ("whole", 12, 72)
    assert learnt["validation_auroc"]["300"] > 0.9
    assert [check["step"] for check in learnt["checks"]] == [30, 60, 90]
    assert learnt["validation_auroc"]["300"] == round(max(c["300"] for c in learnt["checks"]), 6)
    assert blind["name"] == "without residue triples"
    assert all(0 <= each["noise_called_virus"] <= 1 for each in (learnt, blind))


@pytest.mark.slow
def test_a_series_goes_on_where_it_stopped(series, monkeypatch):
    trials = learning_curve(short(TINY, 6))
    first = run_series(trials[:2], series)
    trained = []

    def told(trial, *_):
        trained.append(trial.name)
        return {"noise_called_virus": 0.0}

    monkeypatch.setattr("ngram_trials._result", told)
    assert run_series(trials, series)[:2] == first
    assert trained == ["0.5 of the viral genomes", "1 of the viral genomes"]


def test_a_trial_is_done_once_whatever_it_is_called(series):
    curve, whole = learning_curve(short(TINY, 6))[-1], ablation(short(TINY, 6))[0]
    assert series.fingerprint(curve) == series.fingerprint(whole)
    others = {series.fingerprint(trial) for trial in ablation(short(TINY, 6))}
    assert len(others) == 8


def test_results_are_whole_json_files(series):
    run_series([Trial("whole", short(TINY, 3))], series)
    (path,) = series.folder.iterdir()
    assert "name" not in json.loads(path.read_text())
