import numpy as np
import pytest

from virnuc_dask.lab.quality.figures import (
    RankedScores,
    auroc,
    calls_quality,
    interval,
    means,
    precision_recall_points,
    ranking,
    reliability_bins,
    resampled_aurocs,
    roc_points,
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
    rng = np.random.default_rng(9)  # for which integrating the curve is off by a bit
    is_virus = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + 0.3 * is_virus, decimals)
    assert auroc(scores, is_virus) == slow_auroc(scores, is_virus)  # to the last bit
    expected = slow_average_precision(scores, is_virus)
    assert ranking(scores, is_virus)["average_precision"] == pytest.approx(expected, abs=1e-6)


def test_means_by_group_leave_out_what_has_no_score():
    scores = np.array([1.0, np.nan, 3.0, np.nan])
    expected = [2.0, np.nan, np.nan]
    np.testing.assert_array_equal(means(scores, np.array([0, 1, 0, 0]), 3), expected)


def test_the_auroc_of_one_class_is_no_number():
    assert np.isnan(auroc(np.arange(3.0), np.ones(3, bool)))


# Three viruses and four others: by falling score v o v o o v o.
SCORES = np.array([0.9, 0.7, 0.4, 0.8, 0.6, 0.5, 0.1])
LABELS = np.array([True, True, True, False, False, False, False])


def test_ranking_is_that_of_the_definitions():
    figures = ranking(SCORES, LABELS)
    # Of 12 pairs, the viruses are above 4, 3 and 1 others.
    assert figures["auroc"] == pytest.approx(8 / 12, abs=1e-6)
    assert figures["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 6) / 3, abs=1e-6)
    # No other is called above 0.8, where one virus is found; one of four would be 25 %.
    assert figures["recall_at_fpr_0.01"] == pytest.approx(1 / 3, abs=1e-6)
    assert figures["recall_at_fpr_0.05"] == pytest.approx(1 / 3, abs=1e-6)


def test_recall_at_few_false_positives_calls_ties_together():
    others = np.linspace(0, 0.9, 100)
    scores = np.concatenate([[0.95, 0.9, 0.9], others])
    is_virus = np.arange(103) < 3
    assert ranking(scores, is_virus)["recall_at_fpr_0.01"] == 1.0  # one of a hundred others
    scores[-2] = 0.9
    assert ranking(scores, is_virus)["recall_at_fpr_0.01"] == pytest.approx(1 / 3, abs=1e-6)


def test_calls_are_judged_by_the_definitions():
    called = np.array([True, True, False, True, False, False, False])
    figures = calls_quality(called, LABELS)
    assert (
        figures["recall"] == figures["precision"] == figures["f1"] == pytest.approx(2 / 3, abs=1e-6)
    )
    assert figures["false_positive_rate"] == 0.25
    # (2 * 3 - 1 * 1) / sqrt(3 * 3 * 4 * 4)
    assert figures["mcc"] == pytest.approx(5 / 12, abs=1e-6)


def test_with_one_class_only_no_figure_is_made_up():
    scores, others = np.array([0.2, 0.8]), np.array([False, False])
    assert set(ranking(scores, others).values()) == {None}
    called = calls_quality(scores > 0.5, others)
    assert called == {
        "recall": None,
        "precision": 0,
        "false_positive_rate": 0.5,
        "f1": None,
        "mcc": None,
    }
    assert roc_points(scores, others) == precision_recall_points(scores, others) == [[], []]


def test_thinned_curves_keep_their_shape_and_both_ends():
    rng = np.random.default_rng(0)
    is_virus = rng.random(50_000) < 0.3
    scores = rng.normal(size=50_000) + is_virus
    false, recall = map(np.array, roc_points(scores, is_virus))
    assert len(false) < 1_000
    assert (false[0], recall[0], false[-1], recall[-1]) == (0, 0, 1, 1)
    expected = ranking(scores, is_virus)
    assert np.trapezoid(recall, false) == pytest.approx(expected["auroc"], abs=1e-3)
    assert np.interp(0.01, false, recall) == pytest.approx(expected["recall_at_fpr_0.01"], abs=2e-3)
    recall, precision = map(np.array, precision_recall_points(scores, is_virus))
    assert (np.diff(recall) >= 0).all()
    assert np.trapezoid(precision, recall) == pytest.approx(expected["average_precision"], abs=5e-3)


def test_bins_of_reliability_weigh_both_classes_the_same():
    # One virus and three others at 0.1, one virus at 0.95: half a virus against one in weight.
    probability = np.array([0.1, 0.1, 0.1, 0.1, 0.95])
    is_virus = np.array([True, False, False, False, True])
    low, high = reliability_bins(probability, is_virus, bins=2)
    assert low == {"n": 4, "mean_probability": 0.1, "share_virus": pytest.approx(1 / 3, abs=1e-6)}
    assert high == {"n": 1, "mean_probability": 0.95, "share_virus": 1.0}
    assert reliability_bins(np.array([1.0, 0.0]), np.array([True, False]))[-1]["n"] == 1


def test_a_resample_counts_a_record_as_often_as_it_is_drawn():
    record = np.array([0, 0, 1, 2, 2, 3, 3])
    ranked = RankedScores(SCORES, LABELS, record)
    assert ranked.auroc(np.ones(4, int)) == pytest.approx(8 / 12)
    # Record 0 is drawn twice, 1 not at all; 2 once, 3 once.
    assert ranked.auroc(np.array([2, 0, 1, 1])) == pytest.approx((4 + 3) / 8)
    assert np.isnan(ranked.auroc(np.array([0, 0, 1, 1])))


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    is_virus, record = np.arange(120) < 60, np.arange(120)
    held = 0
    for _ in range(40):
        scores = rng.normal(size=120) + is_virus
        drawn = resampled_aurocs([RankedScores(scores, is_virus, record)], is_virus, is_virus >= 0)
        low, high = interval(drawn[0])
        held += low < 0.7602 < high  # the standard normal distribution at 1 / sqrt(2)
    assert held >= 34


def test_chunks_of_one_record_do_not_narrow_the_interval():
    rng = np.random.default_rng(2)
    is_virus = np.arange(60) < 30
    scores = rng.normal(size=60) + is_virus

    def width(copies):
        record = np.repeat(np.arange(60), copies)
        ranked = RankedScores(np.repeat(scores, copies), is_virus[record], record)
        low, high = interval(resampled_aurocs([ranked], is_virus, is_virus >= 0)[0])
        return high - low

    assert width(20) == pytest.approx(width(1))


def test_differences_are_paired():
    rng = np.random.default_rng(3)
    is_virus, record = np.arange(200) < 100, np.arange(200)
    scores = rng.normal(size=200) + is_virus
    ranked = [RankedScores(s, is_virus, record) for s in (scores, scores * 2)]
    drawn = resampled_aurocs(ranked, is_virus, is_virus >= 0)
    assert drawn[0].std() > 0.01
    assert (drawn[0] == drawn[1]).all()


def test_few_records_give_no_interval():
    is_virus = np.arange(30) < 9
    ranked = RankedScores(np.arange(30.0), is_virus, np.arange(30))
    assert resampled_aurocs([ranked], is_virus, is_virus >= 0) is None
    assert interval(np.array([np.nan])) is None
