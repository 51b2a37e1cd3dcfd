import json

import numpy as np
import pytest

from virnuc_dask import load_modelset
from virnuc_dask.encoders.dnabert_s import DnabertSSizes
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed.random_weights import (
    SPECIAL_TOKENS,
    learn_tokenizer,
    write_modelset,
)


def test_a_model_set_of_random_weights_embeds_and_scores(tmp_path):
    sizes = DnabertSSizes(layers=1, embed_dim=16, heads=2, mlp_dim=32, vocabulary=64)
    write_modelset(tmp_path / "random", sizes, Esm2Sizes(layers=1, embed_dim=24, heads=2))
    models = load_modelset(str(tmp_path / "random"), device="cpu")
    dna, peptide = models.encoders
    features = np.hstack([dna.embed(["ACGTACGT", "TTGCA"]), peptide.embed(["MKV", "MARND"])])
    assert features.shape == (2, 16 + 24)
    assert not np.allclose(features[0], features[1])
    assert np.isfinite(models.classifier.score(features)).all()


def dna(count=200, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), 300, p=[0.4, 0.1, 0.2, 0.3])) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer(dna(), 120)


def test_a_tokenizer_is_laid_out_as_the_published_one(tokenizer, parity_dir):
    published = json.loads((parity_dir / "dnabert_s_tiny/tokenizer.json").read_text())
    ours = json.loads(tokenizer.to_str())
    for part in ("added_tokens", "normalizer", "pre_tokenizer", "post_processor"):
        assert ours[part] == published[part]
    assert list(ours["model"]["vocab"])[:10] == list(published["model"]["vocab"])[:10]
    assert tokenizer.get_vocab_size() == 120
    assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL_TOKENS)
    assert learn_tokenizer(["ACAC", "AC"], 1_000).get_vocab_size() < 20, "there is no more"
