import numpy as np
import pytest

from virnuc_dask.training.figures import (
    auroc,
    average_precision,
    equal_error_threshold,
    error_rates,
    gc_content,
    means,
    quality,
    within_strata,
)


def slow_auroc(scores, is_virus):
    pairs = [
        1.0 if virus > other else 0.5 if virus == other else 0.0
        for virus in scores[is_virus]
        for other in scores[~is_virus]
    ]
    return np.mean(pairs)


def slow_average_precision(scores, is_virus):
    called = [scores >= threshold for threshold in scores[is_virus]]
    return np.mean([is_virus[kept].mean() for kept in called])


@pytest.mark.parametrize("decimals", [1, 8])
def test_figures_are_those_of_their_definitions(decimals):
    rng = np.random.default_rng(0)
    is_virus = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + 0.3 * is_virus, decimals)
    assert auroc(scores, is_virus) == pytest.approx(slow_auroc(scores, is_virus))
    expected = slow_average_precision(scores, is_virus)
    assert average_precision(scores, is_virus) == pytest.approx(expected)


def test_quality_leaves_out_what_has_no_score():
    scores = np.array([0.9, 0.5, np.nan, 0.2, 0.5, np.nan])
    figures = quality(scores, np.array([True, True, True, False, False, False]))
    assert (figures["n_virus"], figures["n_others"], figures["n_unscored"]) == (2, 2, 2)
    assert figures["auroc"] == 0.875
    assert (figures["called_of_virus"], figures["called_of_others"]) == (1.0, 0.5)


def test_within_strata_composition_alone_tells_nothing():
    rng = np.random.default_rng(0)
    is_virus = rng.random(2_000) < 0.5
    gc = np.where(is_virus, 0.41, 0.31) + np.where(rng.random(2_000) < 0.2, 0.1, 0.0)
    scores = np.floor(gc * 20)
    assert auroc(scores, is_virus) > 0.8
    assert within_strata(auroc, scores, is_virus, gc) == 0.5


def test_small_strata_say_nothing():
    scores, is_virus = np.arange(40.0), np.arange(40) % 2 == 0
    assert within_strata(auroc, scores, is_virus, np.full(40, 0.5)) == auroc(scores, is_virus)
    assert within_strata(auroc, scores, is_virus, np.linspace(0.2, 0.8, 40)) is None


@pytest.mark.parametrize(("dna", "share"), [("GC", 1), ("ATGC", 0.5), ("", 0)])
def test_gc_content(dna, share):
    assert gc_content(dna) == share


def test_means_by_group_leave_out_what_has_no_score():
    scores = np.array([1.0, np.nan, 3.0, np.nan])
    expected = [2.0, np.nan, np.nan]
    np.testing.assert_array_equal(means(scores, np.array([0, 1, 0, 0]), 3), expected)


def test_error_rates_at_a_threshold():
    scores = np.array([0.2, 0.4, 0.6, 0.4, 0.1])
    is_virus = np.array([True, True, True, False, False])
    assert error_rates(scores, is_virus, 0.4) == (pytest.approx(1 / 3), 0.5)


def test_the_threshold_lies_in_the_middle_of_a_gap():
    scores = np.array([0.1, 0.2, 0.3, 0.7, 0.9])
    is_virus = np.array([False, False, False, True, True])
    assert equal_error_threshold(scores, is_virus) == pytest.approx(0.5)


def test_the_threshold_equalises_the_error_rates():
    rng = np.random.default_rng(0)
    is_virus = rng.random(3_000) < 0.2
    scores = rng.normal(0.3 + 0.1 * is_virus, 0.1)
    missed, false = error_rates(scores, is_virus, equal_error_threshold(scores, is_virus))
    assert missed == pytest.approx(false, abs=0.005)
    assert 0.2 < missed < 0.4
