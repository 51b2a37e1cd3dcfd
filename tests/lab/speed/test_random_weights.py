import json
import subprocess
import sys

import numpy as np
import pytest

from virnuc_dask import load_modelset
from virnuc_dask.encoders.dnabert_s import DnabertSSizes, read_tokenizer
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed.random_weights import (
    DNABERT_S_SIZES,
    ESM2_SIZES,
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


def test_the_published_sizes_have_the_parameters_in_their_names():
    def weights(sizes):
        return sizes.layers * 12 * sizes.embed_dim**2

    for name, sizes in ESM2_SIZES.items():
        named = float(name[:-1]) * {"M": 1e6, "B": 1e9}[name[-1]]
        assert 0.8 < weights(sizes) / named < 1.1
    assert DNABERT_S_SIZES["117M"].heads == 12


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


def test_a_text_comes_back_between_begin_and_end_in_fewer_tokens(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = dna(1, seed=7)[0]
    encoding = read_tokenizer(tmp_path / "tokenizer.json").encode(text)
    first, *inner, last = encoding.tokens
    assert (first, last, "".join(inner)) == ("[CLS]", "[SEP]", text)
    assert len(inner) < len(text) / 2
    assert tokenizer.encode("ARA").ids == [1, 5, 0, 5, 2], "R is no base"


def test_another_process_learns_the_same_tokenizer(tokenizer):
    program = (
        "import json, sys; from virnuc_dask.lab.speed.random_weights import learn_tokenizer\n"
        "sys.stdout.write(learn_tokenizer(json.load(sys.stdin), 120).to_str())"
    )
    command, given = [sys.executable, "-c", program], json.dumps(dna())
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    assert done.stdout == tokenizer.to_str()
