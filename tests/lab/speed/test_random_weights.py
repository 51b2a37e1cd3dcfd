import numpy as np

from virnuc_dask import load_modelset
from virnuc_dask.encoders.dnabert_s import DnabertSSizes
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES, write_modelset


def test_a_model_set_of_random_weights_embeds_and_scores(tmp_path):
    sizes = DnabertSSizes(layers=1, embed_dim=16, heads=2, mlp_dim=32, vocabulary=64)
    write_modelset(tmp_path / "random", sizes, Esm2Sizes(layers=1, embed_dim=24, heads=2))
    models = load_modelset(str(tmp_path / "random"), device="cpu")
    dna, peptide = models.encoders
    features = np.hstack([dna.embed(["ACGTACGT", "TTGCA"]), peptide.embed(["MKV", "MARND"])])
    assert features.shape == (2, 16 + 24)
    assert not np.allclose(features[0], features[1])
    assert np.isfinite(models.classifier.score(features)).all()


def test_the_published_sizes_have_the_parameters_in_their_names():
    def weights(sizes):
        return sizes.layers * 12 * sizes.embed_dim**2

    for name, sizes in ESM2_SIZES.items():
        named = float(name[:-1]) * {"M": 1e6, "B": 1e9}[name[-1]]
        assert 0.8 < weights(sizes) / named < 1.1
    assert DNABERT_S_SIZES["117M"].heads == 12
