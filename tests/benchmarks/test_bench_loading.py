from bench_loading import write_modelset

from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed.random_weights import ESM2_SIZES
from virnuc_dask.modelsets.modelset import load_modelset


def test_an_esm2_beside_the_nucleotide_encoder_of_mini_is_a_set_that_loads(tmp_path, monkeypatch):
    monkeypatch.setitem(ESM2_SIZES, "3B", Esm2Sizes(layers=1, embed_dim=24, heads=2))
    write_modelset(tmp_path / "set", "3B", "fp32")
    _, peptide = load_modelset(str(tmp_path / "set")).encoders
    assert peptide.embed(["MEFLPQ"]).shape == (1, 24)
