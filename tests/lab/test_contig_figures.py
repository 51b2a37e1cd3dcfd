import numpy as np
import pytest

from virnuc_dask.lab.contig_figures import Judged, figures, separation
from virnuc_dask.stages.calls import CallRule


@pytest.fixture(scope="module")
def known():
    """Evidence that is exactly what it claims to be; of one record of noise, which is unsure."""
    is_virus = np.arange(20_000) < 10_000
    evidence = 3 * np.random.default_rng(0).normal(np.where(is_virus, 1.5, -1.5))
    kind = np.where(is_virus, "phage", "prokaryote").astype("<U10")
    kind[0] = "noise"
    length = np.where(np.arange(20_000) % 2, 3000.0, 500.0)
    return Judged(kind, length, evidence, np.where(kind == "noise", 0.0, 1.0))


def test_recall_is_where_so_many_others_are_called():
    evidence = np.concatenate([np.arange(100.0), [98.5, 200, 200, 200]])
    found = separation(evidence, np.arange(104) >= 100)
    assert found == {"auroc": 0.9975, "recall_at_1": 1.0, "recall_at_5": 1.0}


def test_figures_are_by_length_and_kind(known):
    found = figures(known, CallRule(reliable=0.1))
    at_3000 = found["by_length"]["3000"]
    assert at_3000["phage against prokaryote"]["others"] == 5000
    assert at_3000["calibration_error"] < 0.01
    assert at_3000["q_values"]["0.5"]["fdr"] == pytest.approx(0.1, abs=0.03)
    assert found["by_length"]["1000"] == {}
    noise = found["calls"]["noise, below 3000 nt"]
    assert noise == {"contigs": 1, "virus": 0, "unsure": 1, "virus_a_megabase": 0}
    others = found["calls"]["prokaryote, 3000 nt and more"]
    assert others["virus"] == pytest.approx(0.067, abs=0.02)
    assert others["virus_a_megabase"] == pytest.approx(others["virus"] * 1e6 / 3000, abs=0.1)


def test_evidence_that_claims_too_much_has_an_error(known):
    found = figures(known._replace(evidence=known.evidence + 2), CallRule())
    assert found["by_length"]["3000"]["calibration_error"] > 0.05
