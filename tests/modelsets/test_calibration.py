import math

import numpy as np
import pytest

from virnuc_dask.checks import build
from virnuc_dask.modelsets.calibration import (
    Calibration,
    estimate_prevalence,
    interpolate,
    margins,
    posterior,
    probability,
    q_values,
)

CONTENT = {
    "chunk_knots": [[-4.0, -2.0], [0.0, 0.0], [4.0, 3.0]],
    "correlation": 0.25,
    "offset": -0.5,
    "contig_knots": [[-5.0, -4.0], [5.0, 6.0]],
    "method": "by hand",
}


@pytest.fixture
def calibration() -> Calibration:
    return build(Calibration, CONTENT, "calibration")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.5}, "unknown setting calibration.threshold"),
        ({"correlation": 1.01}, "must be a number of at least 0 and of at most 1"),
        ({"contig_knots": [[0, 0]]}, "must be a list of at least 2"),
        ({"contig_knots": [[0, 0], [1]]}, r"contig_knots\[1\]\[1\] is missing"),
        ({"contig_knots": [[0, 0], [math.nan, 1]]}, "must be a number of at least"),
        ({"contig_knots": [[1, 0], [0, 1]]}, "must ascend"),
        ({"contig_knots": [[0, 0], [0, 1]]}, "must ascend"),
        ({"chunk_knots": [[0, 0], [1, 2], [2, 1]]}, "never fall"),
    ],
)
def test_what_is_no_calibration_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build(Calibration, CONTENT | change, "calibration")


def test_a_margin_is_finite_for_any_score():
    scores = np.array([0, 1, 0.5, 1e-30, 1 - 1e-9], np.float32)
    assert np.isfinite(margins(scores, scores[::-1])).all()
    assert margins(np.float32([0.75]), np.float32([0.25]))[0] == pytest.approx(2 * math.log(3))


def test_chunk_evidence_rises_with_the_margin_and_ends_at_the_outer_knots(calibration):
    margin = np.array([-100, -4, -2, 0, 2, 4, 100.0])
    expected = [-2, -2, -1, 0, 1.5, 3, 3]
    assert interpolate(margin, calibration.chunk_knots).tolist() == expected
    score = 1 / (1 + np.exp(-margin[1:-1] / 2))
    np.testing.assert_allclose(calibration.chunk_evidence(score, 1 - score), expected[1:-1])


def test_a_records_evidence_follows_from_sum_and_count_alone(calibration):
    total, chunks = np.array([6.0, 1.0, 0.0, 300.0]), np.array([4, 1, 0, 100])
    evidence = calibration.contig_evidence(total, chunks)
    assert evidence[:2] == pytest.approx([4 / 1.75 * (1.5 - 0.5) + 1, 0.5 + 1])
    assert math.isnan(evidence[2])
    assert evidence[3] == 6, "as much as was ever supported"


def test_a_probability_is_that_of_equally_frequent_classes():
    evidence = np.array([-1e6, -2, 0, math.log(3), 1e6, math.nan])
    assert probability(evidence)[:5] == pytest.approx([0, 0.1192029, 0.5, 0.75, 1])
    assert math.isnan(probability(evidence)[5])
    assert np.allclose(posterior(evidence, 0.5), probability(evidence), equal_nan=True)
    assert posterior(np.array([math.log(3)]), 0.1)[0] == pytest.approx(0.3 / 1.2)


def sample_of(prevalence: float, records: int, seed: int = 1) -> np.ndarray:
    """Evidence, exact by design: scores of either class are normal, two apart."""
    rng = np.random.default_rng(seed)
    score = rng.standard_normal(records) + np.where(rng.random(records) < prevalence, 2, 0)
    return 2 * score - 2


def test_the_prevalence_is_where_the_likelihood_is_highest():
    evidence = sample_of(0.2, 3_000, seed=4)
    grid = np.linspace(0.001, 0.999, 999)
    ratio = np.exp(evidence)[:, None] - 1
    likelihood = np.log1p(grid * ratio).sum(axis=0) + np.log(grid) + np.log1p(-grid)
    assert estimate_prevalence(evidence) == pytest.approx(grid[likelihood.argmax()], abs=0.001)


@pytest.mark.parametrize("value", [-20.0, 20.0])
def test_one_record_does_not_make_all_the_world_viral_or_none(value):
    assert 0.2 < estimate_prevalence(np.full(1, value)) < 0.8


def test_unscored_records_say_nothing_about_the_prevalence():
    evidence = sample_of(0.3, 500)
    mixed = np.concatenate([evidence, np.full(300, np.nan)])
    assert estimate_prevalence(mixed) == estimate_prevalence(evidence)
    assert estimate_prevalence(np.full(3, np.nan)) == estimate_prevalence(np.empty(0)) == 0.5


def test_a_q_value_is_the_mean_chance_of_error_of_all_that_is_no_less_viral():
    evidence = sample_of(0.3, 400, seed=2).round(1)  # many are equal
    wrong = 1 - posterior(evidence, 0.3)
    expected = [wrong[evidence >= value].mean() for value in evidence]
    with_unscored = q_values(np.append(evidence, np.nan), 0.3)
    assert np.allclose(with_unscored, [*expected, np.nan], equal_nan=True)
    assert q_values(np.empty(0), 0.5).tolist() == []


@pytest.mark.parametrize("prevalence", [0.01, 0.1, 0.5])
def test_q_values_hold_at_any_prevalence(prevalence):
    rng = np.random.default_rng(3)
    viral = rng.random(200_000) < prevalence
    evidence = 4 * (rng.standard_normal(200_000) + np.where(viral, 4, 0)) - 8
    called = q_values(evidence, estimate_prevalence(evidence)) <= 0.05
    assert (~viral[called]).mean() == pytest.approx(0.05, abs=0.012)
