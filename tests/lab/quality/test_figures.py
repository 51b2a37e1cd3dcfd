import numpy as np
import pytest
from sklearn import metrics

from virnuc_dask.lab.quality.figures import (
    FIGURES,
    auroc,
    calibration_error,
    curves,
    quality,
)

# Three viruses and four others: by falling score v o v o o v o.
SCORES = np.array([0.9, 0.7, 0.4, 0.8, 0.6, 0.5, 0.1])
LABELS = np.arange(7) < 3
CALLED = np.array([True, True, False, True, False, False, False])


@pytest.mark.parametrize("decimals", [1, 8])
def test_an_auroc_is_counted_to_the_last_bit(decimals):
    rng = np.random.default_rng(9)  # for which integrating the curve is off by a bit
    is_virus = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + 0.3 * is_virus, decimals)
    above = np.sign(scores[is_virus][:, None] - scores[~is_virus])
    assert auroc(scores, is_virus) == (above / 2 + 0.5).mean()
    assert np.isnan(auroc(scores, np.ones(200, bool)))


def test_figures_are_those_of_the_definitions():
    found = quality(SCORES, CALLED, LABELS)
    assert list(found) == [figure.key for figure in FIGURES]
    expected = {
        "auroc": 8 / 12,  # the viruses are above 4, 3 and 1 others
        "average_precision": (1 + 2 / 3 + 3 / 6) / 3,
        "f1": 2 / 3,
        "mcc": 5 / 12,  # (2 * 3 - 1 * 1) / sqrt(3 * 3 * 4 * 4)
        # No other is called above 0.8, where one virus is found; one of four would be 25 %.
        "recall_at_fpr_0.01": 1 / 3,
        "recall_at_fpr_0.05": 1 / 3,
        "recall": 2 / 3,
        "precision": 2 / 3,
        "false_positive_rate": 0.25,
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_with_one_class_only_no_figure_is_made_up():
    scores, others = np.array([0.2, 0.8]), np.zeros(2, bool)
    found = quality(scores, scores > 0.5, others)
    assert (found.pop("precision"), found.pop("false_positive_rate")) == (0, 0.5)
    assert set(found.values()) == {None}
    assert curves(scores, others) == {"roc": [[], []], "precision_recall": [[], []]}


def test_thinned_curves_keep_their_shape_and_both_ends():
    rng = np.random.default_rng(0)
    is_virus = rng.random(50_000) < 0.3
    scores = rng.normal(size=50_000) + is_virus
    found = curves(scores, is_virus)
    false, recall = map(np.array, found["roc"])
    assert len(false) < 1_000
    assert (false[0], recall[0], false[-1], recall[-1]) == (0, 0, 1, 1)
    area = metrics.roc_auc_score(is_virus, scores)
    assert np.trapezoid(recall, false) == pytest.approx(area, abs=1e-3)
    recall, precision = map(np.array, found["precision_recall"])
    assert (np.diff(recall) >= 0).all()
    area = metrics.average_precision_score(is_virus, scores)
    assert np.trapezoid(precision, recall) == pytest.approx(area, abs=5e-3)
    assert precision[-1] == pytest.approx(is_virus.mean(), abs=1e-5), "the share of viruses"


@pytest.mark.parametrize(
    ("probability", "is_virus", "error"),
    [
        ([0.95, 0.95, 0.05, 0.05], [1, 1, 0, 0], 0.05),
        ([0.95, 0.95, 0.05, 0.05], [0, 0, 1, 1], 0.95),
        ([1.0, 0.0], [1, 0], 0.0),
        ([0.9] * 10, [1] + [0] * 9, 0.4),
    ],
)
def test_the_calibration_error_is_the_mean_gap_of_the_bins(probability, is_virus, error):
    found = calibration_error(np.array(probability), np.array(is_virus, bool))
    assert found == pytest.approx(error)
