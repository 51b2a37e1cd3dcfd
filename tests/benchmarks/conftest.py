import json
import sys
from pathlib import Path

import pytest

from virnuc_dask.encoders.dnabert_s import DnabertSSizes
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES

# The programs in benchmarks/ import one another by their plain names.
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture
def program(monkeypatch, capsys, tmp_path):
    """Runs a program and gives its figures, which stand in its last line and in a file."""
    # The fresh processes that some of them measure in import them by their names.
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def run(module, *options):
        words = [module.__name__, *options, "--out", tmp_path / "figures.json"]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        module.main()
        figures = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert json.loads((tmp_path / "figures.json").read_text()) == figures
        assert figures["machine"]["cores"]
        return figures

    return run


@pytest.fixture
def tiny(monkeypatch):
    """The smallest sizes of random encoders are smaller still."""
    monkeypatch.setitem(ESM2_SIZES, "8M", Esm2Sizes(layers=2, embed_dim=40, heads=4))
    sizes = DnabertSSizes(layers=2, embed_dim=36, heads=6, mlp_dim=48, vocabulary=64)
    monkeypatch.setitem(DNABERT_S_SIZES, "small", sizes)
