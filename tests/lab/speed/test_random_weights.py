import json

import numpy as np
import pytest

from virnuc_dask.lab.speed.random_weights import (
    SPECIAL_TOKENS,
    learn_tokenizer,
)


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
