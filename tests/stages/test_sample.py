import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_dask.modelsets.calibration import estimate_prevalence, q_values
from virnuc_dask.stages import sample
from virnuc_dask.stages.sample import Sample
from virnuc_dask.tables import on_disk


@pytest.fixture(autouse=True)
def _small_runs(monkeypatch):
    monkeypatch.setattr(on_disk, "RUN_BYTES", 500)
    monkeypatch.setattr(on_disk, "PIECES", 8)


def written(q_value: np.ndarray) -> list[str]:
    """As ``contigs.tsv`` has them."""
    return [f"{q:.6f}" for q in q_value]


def require_same(evidence: np.ndarray, pieces: int, fdr: float | None = None) -> Sample:
    """Compare a sample that is sorted on disk with all of it in memory."""
    found = Sample(np.array_split(evidence, pieces), fdr)
    if np.isnan(evidence).all():
        assert found.prevalence is None
        assert np.isnan(found.q_values(evidence)).all()
        return found
    assert found.prevalence == estimate_prevalence(evidence), "to the last bit"
    expected, ours = q_values(evidence, found.prevalence), found.q_values(evidence)
    assert written(ours) == written(expected)
    if fdr is not None:
        assert np.array_equal(ours <= fdr, expected <= fdr)
    return found


VALUES = st.sampled_from([-8.0, -2.5, -0.0, 0.0, 1e-9, 2.0, 2.0 + 1e-12, 8.0, np.nan])


@given(
    st.lists(VALUES | st.floats(-20, 20), min_size=1, max_size=300),
    st.integers(1, 20),
    st.none() | st.floats(0, 1),
)
def test_on_disk_as_in_memory(evidence, pieces, fdr):
    require_same(np.array(evidence), pieces, fdr)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_many_records_of_hardly_equal_evidence(spread):
    rng = np.random.default_rng(5)
    evidence = rng.normal(-1, spread, 20_000)
    evidence[rng.random(len(evidence)) < 0.2] = np.nan
    known = q_values(evidence, estimate_prevalence(evidence))
    found = require_same(evidence, 40, float(np.nanmedian(known)))
    assert len(found._q_value) <= len(np.unique(evidence[~np.isnan(evidence)]))


def test_q_values_that_are_written_alike_share_one(monkeypatch):
    monkeypatch.setattr(sample, "_WRITTEN", 10)  # one decimal
    evidence = np.random.default_rng(6).normal(-1, 2, 5000)
    found = Sample([evidence], 0.123)
    expected = q_values(evidence, found.prevalence)
    ours = found.q_values(evidence)
    assert len(found._q_value) < 12
    assert np.array_equal(np.rint(ours * 10), np.rint(expected * 10))
    assert np.array_equal(ours <= 0.123, expected <= 0.123)


def test_a_q_value_at_the_edge_of_rounding_stays_itself(monkeypatch):
    q = np.array([0.25 - 1e-9, 0.25 + 1e-9, 0.25 + 2e-9, 0.3])
    monkeypatch.setattr(sample, "_WRITTEN", 10)
    assert sample._differ(np.append(np.nan, q), np.nan).tolist() == [True, True, True, True]
    assert sample._differ(np.array([0.31, 0.33, 0.34]), 0.335).tolist() == [False, True]
