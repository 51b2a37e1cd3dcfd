import numpy as np
import pytest

from virnuc_dask.lab.contig_figures import (
    Judged,
    discoveries,
    figures,
)
from virnuc_dask.stages.calls import CallRule


@pytest.fixture(scope="module")
def known():
    """Evidence that is exactly what it claims to be."""
    rng = np.random.default_rng(0)
    is_virus = np.arange(20_000) < 10_000
    score = rng.normal(np.where(is_virus, 1.5, -1.5))
    return 3 * score, is_virus


def test_figures_are_by_length_and_kind(known):
    evidence, is_virus = known
    kind = np.where(is_virus, "phage", "prokaryote")
    kind[0] = "noise"
    length = np.where(np.arange(20_000) % 2, 3000.0, 500.0)
    reliability = np.where(kind == "noise", 0.0, 1.0)
    found = figures(Judged(kind, length, evidence, reliability), CallRule(reliable=0.1))
    assert found["by_length"]["3000"]["phage against prokaryote"]["others"] == 5000
    assert found["by_length"]["1000"] == {}
    assert found["calls"]["noise, below 3000 nt"]["unsure"] == 1
    assert found["calls"]["noise, below 3000 nt"]["virus"] == 0
    prokaryotes = found["calls"]["prokaryote, 3000 nt and more"]
    assert prokaryotes["virus"] == pytest.approx(0.067, abs=0.02)
    megabases = 5000 * 3000 / 1e6
    assert prokaryotes["virus_a_megabase"] == pytest.approx(
        prokaryotes["virus"] * 5000 / megabases, abs=0.1
    )


@pytest.mark.parametrize("prevalence", [0.5, 0.1])
def test_false_discoveries_are_as_many_as_allowed(known, prevalence):
    found = discoveries(*known, prevalence)
    assert found["fdr"] == pytest.approx(0.1, abs=0.03)
    assert found["recall"] > 0.6
