import numpy as np
import pytest

from virnuc_dask.lab.calibrate_contigs import calibrate, familiarity

LENGTHS = (500, 3000)


@pytest.fixture(scope="module")
def contigs():
    """Scores of which the log ratio is known: 2 x at 500 nt, 4 x at 3000 nt."""
    rng = np.random.default_rng(0)
    is_virus = rng.random(40_000) < 0.3
    length = np.where(rng.random(40_000) < 0.5, 500.0, 3000.0)
    shift = np.where(length == 500, 1.0, 2.0)
    return rng.normal(np.where(is_virus, shift, -shift)), length, is_virus


@pytest.mark.parametrize(("length", "slope"), [(500.0, 2.0), (3000.0, 4.0)])
@pytest.mark.parametrize("virus_weight", [1.0, 25.0])
def test_a_known_curve_is_found_whatever_a_side_weighs(contigs, length, slope, virus_weight):
    curve = calibrate(*contigs, np.where(contigs[2], virus_weight, 1.0), LENGTHS)
    score = np.linspace(-1.2, 1.2, 9)
    found = curve.of(score, np.full(9, length))
    np.testing.assert_allclose(found, slope * score, atol=0.35, rtol=0.12)


def test_nothing_is_claimed_that_the_contigs_could_not_show(contigs):
    score, length, is_virus = (column[:600] for column in contigs)
    curve = calibrate(score, length, is_virus, np.ones(600), LENGTHS)
    found = curve.of(np.array([50.0, -50.0]), np.full(2, 3000.0))
    assert (np.abs(found) < np.log((length == 3000).sum())).all()


def test_what_is_unlike_all_that_was_seen_is_unfamiliar():
    features = np.column_stack([np.random.default_rng(1).normal(size=(5000, 3)), np.full(5000, 7)])
    features[:, 1] += features[:, 0]  # no axis of its own
    length = np.full(5000, 500.0)
    known = familiarity(features, length, LENGTHS)
    reliability = known.reliability(features, length)
    assert np.quantile(reliability, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    # Each number is usual, both together are not.
    strange = np.array([[2.0, -2.0, 0.0, 7.0]])
    assert known.reliability(strange, np.full(1, 500.0)) < 0.01
