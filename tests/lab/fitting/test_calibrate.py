import numpy as np
import pytest

from virnuc_dask.lab.fitting.calibrate import UNSEEN, fit
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
    totals = [interpolate(margins, calibration.chunk_knots).sum() for margins in contigs]
    return calibration.contig_evidence(np.array(totals), np.array([len(c) for c in contigs]))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(*contigs_of(2_000, 16_000, seed=1))


@pytest.mark.parametrize("chunks", LENGTHS)
def test_contig_probabilities_hold_at_every_length(calibration, chunks):
    contigs, is_virus = contigs_of(5_000, 5_000, seed=3, chunks=chunks)
    found = probability(evidence_of(calibration, contigs))
    assert calibration_error(found, is_virus) <= 0.02


@pytest.mark.parametrize("tail", [None, 2], ids=["normal", "far outliers"])
def test_false_discoveries_stay_below_what_is_asked_for_and_viruses_are_found(tail):
    """Far outliers make it cautious, and not wrong."""
    made = fit(*contigs_of(2_000, 16_000, seed=1, tail=tail))
    contigs, is_virus = contigs_of(4_000, 30_000, seed=2, tail=tail)
    evidence = evidence_of(made, contigs)
    for prevalence, least in ((0.01, 0.1), (0.10, 0.5), (0.50, 0.8)):
        for nominal in (0.05, 0.10):
            found = discoveries(evidence, is_virus, prevalence, nominal, samples=100)
            assert found["false_discovery_rate"] <= nominal + 0.02
        assert tail or found["recall"] >= least


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
