from dataclasses import asdict

import numpy as np
import pytest

from virnuc_dask.checks import build
from virnuc_dask.errors import BadInputError
from virnuc_dask.lab.quality.calibrate import FEWEST_CONTIGS, UNSEEN, fit
from virnuc_dask.lab.quality.figures import calibration_error, discoveries
from virnuc_dask.modelsets.calibration import Calibration, interpolate, probability

LENGTHS = (1, 2, 5, 10, 30, 100)
Contigs = tuple[list[np.ndarray], np.ndarray]


def contigs_of(viral: int, others: int, seed: int, chunks: int | None = None, tail=None) -> Contigs:
    """Margins of contigs that differ among themselves, so that the chunks of one are alike.

    Of 1 to 100 chunks, or of ``chunks``; ``tail``: how contigs differ is t-distributed with so
    many degrees of freedom, not normal.
    """
    rng = np.random.default_rng(seed)
    is_virus = np.arange(viral + others) < viral
    sizes = np.exp(rng.uniform(0, np.log(101), len(is_virus))).astype(int)
    differ = rng.standard_t(tail, len(is_virus)) if tail else rng.standard_normal(len(is_virus))
    centre = np.where(is_virus, 3.0 + 1.5 * differ, -3.0 + 1.2 * differ)
    sizes = sizes if chunks is None else np.full(len(is_virus), chunks)
    return [
        c + 3 * rng.standard_normal(size) for c, size in zip(centre, sizes, strict=True)
    ], is_virus


def evidence_of(calibration: Calibration, contigs: list[np.ndarray]) -> np.ndarray:
    totals = [calibration.evidence_of_margins(margins).sum() for margins in contigs]
    return calibration.contig_evidence(np.array(totals), np.array([len(c) for c in contigs]))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(*contigs_of(2_000, 16_000, seed=1))


@pytest.fixture(scope="module")
def heavy_tailed() -> Calibration:
    """Made from contigs some of which lie far on the wrong side."""
    return fit(*contigs_of(2_000, 16_000, seed=1, tail=2))


@pytest.fixture(scope="module")
def fresh(calibration) -> tuple[np.ndarray, np.ndarray]:
    """Evidence of contigs that the calibration was not made from, and their labels."""
    contigs, is_virus = contigs_of(4_000, 30_000, seed=2)
    return evidence_of(calibration, contigs), is_virus


@pytest.fixture(scope="module")
def heavy_tailed_fresh(heavy_tailed) -> tuple[np.ndarray, np.ndarray]:
    contigs, is_virus = contigs_of(4_000, 30_000, seed=2, tail=2)
    return evidence_of(heavy_tailed, contigs), is_virus


@pytest.mark.parametrize("chunks", LENGTHS)
def test_contig_probabilities_hold_at_every_length(calibration, chunks):
    contigs, is_virus = contigs_of(5_000, 5_000, seed=3, chunks=chunks)
    found = probability(evidence_of(calibration, contigs))
    assert calibration_error(found, is_virus) <= 0.02


def test_contig_probabilities_hold_over_all_lengths(fresh):
    evidence, is_virus = fresh
    assert calibration_error(probability(evidence), is_virus) <= 0.02


def test_a_sum_would_be_overconfident_and_a_mean_underconfident(calibration):
    """What the pooling is for: the same chunks, as if they were independent, or one."""
    contigs, is_virus = contigs_of(5_000, 5_000, seed=3, chunks=30)
    chunk_evidence = [calibration.evidence_of_margins(margins) for margins in contigs]
    for pooled in (np.sum, np.mean):
        naive = probability(np.array([pooled(values) for values in chunk_evidence]))
        found = probability(evidence_of(calibration, contigs))
        error = calibration_error(found, is_virus)
        assert calibration_error(naive, is_virus) > 1.5 * error


def test_chunk_probabilities_hold(calibration):
    contigs, is_virus = contigs_of(4_000, 4_000, seed=5)
    found = probability(calibration.evidence_of_margins(np.concatenate(contigs)))
    label = np.repeat(is_virus, [len(margins) for margins in contigs])
    assert calibration_error(found, label) <= 0.02


@pytest.mark.parametrize("nominal", [0.05, 0.10])
@pytest.mark.parametrize("prevalence", [0.01, 0.10, 0.50])
def test_false_discoveries_stay_below_what_is_asked_for(fresh, prevalence, nominal):
    found = discoveries(*fresh, prevalence, nominal)
    assert found["false_discovery_rate"] <= nominal + 0.02


def test_and_yet_viruses_are_found(fresh):
    for prevalence, least in ((0.01, 0.1), (0.10, 0.5), (0.50, 0.8)):
        found = discoveries(*fresh, prevalence, 0.10, samples=50)
        assert found["recall"] >= least
        assert found["estimated_prevalence"] == pytest.approx(prevalence, abs=0.02)


@pytest.mark.parametrize("prevalence", [0.01, 0.10, 0.50])
def test_far_outliers_make_it_cautious_and_not_wrong(heavy_tailed_fresh, prevalence):
    for nominal in (0.05, 0.10):
        found = discoveries(*heavy_tailed_fresh, prevalence, nominal)
        assert found["false_discovery_rate"] <= nominal + 0.02


def test_far_outliers_lessen_what_is_claimed(calibration, heavy_tailed):
    assert heavy_tailed.contig_knots[-1][1] < calibration.contig_knots[-1][1] - 1


def test_no_more_is_claimed_than_so_many_contigs_support():
    """Classes that never meet: the claim is bounded by how many were seen, not by the gap."""
    previous = 0.0
    for others in (30, 300, 3_000):
        contigs = [np.array([9.0 + i / 100]) for i in range(50)]
        contigs += [np.array([-9.0 - i / others]) for i in range(others)]
        calibration = fit(contigs, np.arange(len(contigs)) < 50)
        most = evidence_of(calibration, [np.full(100, 12.0)])[0]
        assert previous < most <= np.log((50 + UNSEEN) / 50 * others / UNSEEN) + 1e-5
        least = evidence_of(calibration, [np.full(100, -12.0)])[0]
        assert 0 > least >= -np.log((others + UNSEEN) / others * 50 / UNSEEN) - 1e-5
        previous = most


def test_more_chunks_that_say_virus_are_more_evidence(calibration):
    evidence = evidence_of(calibration, [np.full(size, 3.0) for size in LENGTHS])
    assert (np.diff(evidence) >= 0).all()
    assert evidence[-1] > evidence[0]


def test_the_same_contigs_give_the_same_calibration_again(calibration):
    assert fit(*contigs_of(2_000, 16_000, seed=1)) == calibration


def test_a_fitted_calibration_passes_its_own_checks(calibration):
    assert build(Calibration, asdict(calibration), "") == calibration
    assert calibration.method == "2000 viral and 16000 other validation contigs"


def test_numbers_of_contigs_do_not_make_a_class_likelier():
    viral, label = contigs_of(2_000, 2_000, seed=7)
    kept = np.flatnonzero(label)[:400].tolist() + np.flatnonzero(~label).tolist()
    fewer = fit([viral[index] for index in kept], label[kept])
    even = fit(viral, label)
    margin = np.linspace(-6, 6, 50)
    apart = fewer.evidence_of_margins(margin) - even.evidence_of_margins(margin)
    assert np.abs(apart).max() < 0.5, "log 5 if the fewer viruses counted for less"


def test_contigs_without_a_scored_chunk_are_left_out():
    contigs, is_virus = contigs_of(60, 60, seed=8)
    more = [*contigs, *[np.empty(0)] * 30]
    assert fit(more, [*is_virus, *[True] * 30]) == fit(contigs, is_virus)


def test_a_classifier_that_knows_nothing_gives_no_evidence():
    contigs = [np.full(3, 1.5) for _ in range(80)]
    found = evidence_of(fit(contigs, np.arange(80) % 2 == 0), contigs)
    assert np.abs(found).max() < 0.3


def test_a_classifier_that_is_wrong_gives_no_evidence_either():
    contigs, is_virus = contigs_of(200, 200, seed=9)
    found = evidence_of(fit(contigs, ~is_virus), contigs)
    assert np.abs(found).max() < 0.3


@pytest.mark.parametrize(("viral", "others"), [(0, 50), (50, 0), (FEWEST_CONTIGS - 1, 500)])
def test_too_few_contigs_of_a_class_are_an_error_saying_how_many(viral, others):
    with pytest.raises(BadInputError, match=rf"{min(viral, others)} (viral|other) .*are needed"):
        fit(*contigs_of(viral, others, seed=1))


def test_margins_that_are_no_numbers_and_missing_labels_are_errors():
    contigs, is_virus = contigs_of(30, 30, seed=1)
    with pytest.raises(BadInputError, match="59 labels"):
        fit(contigs, is_virus[:-1])
    with pytest.raises(BadInputError, match="finite"):
        fit([*contigs[:-1], np.array([np.nan])], is_virus)


def test_interpolation_never_exceeds_the_outer_knots(calibration):
    far = interpolate(np.array([-1e9, 1e9]), calibration.contig_knots)
    assert far.tolist() == [calibration.contig_knots[0][1], calibration.contig_knots[-1][1]]
