import json
import os
import subprocess
import sys

import numpy as np
import pytest

from virnuc_dask.encoders.dnabert_s import read_tokenizer
from virnuc_dask.lab.speed.tokenizer import (
    SPECIAL_TOKENS,
    learn_tokenizer,
    tokenizing_in_parallel,
)


def dna(count=200, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), 300, p=[0.4, 0.1, 0.2, 0.3])) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer(dna(), 120)


def test_its_json_is_laid_out_as_the_published_one(tokenizer, parity_dir):
    published = json.loads((parity_dir / "dnabert_s_tiny/tokenizer.json").read_text())
    ours = json.loads(tokenizer.to_str())
    for part in ("added_tokens", "normalizer", "pre_tokenizer", "post_processor"):
        assert ours[part] == published[part]
    assert list(ours["model"]["vocab"])[:10] == list(published["model"]["vocab"])[:10]
    assert ours["model"]["unk_token"] == "[UNK]"


def test_it_has_as_many_tokens_as_asked_for(tokenizer):
    assert tokenizer.get_vocab_size() == 120
    assert [tokenizer.id_to_token(index) for index in range(5)] == list(SPECIAL_TOKENS)


def test_texts_with_little_variety_give_fewer_tokens():
    assert learn_tokenizer(["ACAC", "AC"], 1_000).get_vocab_size() < 20


def test_a_text_comes_back_between_begin_and_end_in_fewer_tokens(tokenizer, tmp_path):
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = dna(1, seed=7)[0]
    encoding = read_tokenizer(tmp_path / "tokenizer.json").encode(text)
    first, *inner, last = encoding.tokens
    assert (first, last, "".join(inner)) == ("[CLS]", "[SEP]", text)
    assert len(inner) < len(text) / 2


def test_letters_that_are_no_bases_are_unknown(tokenizer):
    assert tokenizer.encode("ARA").ids == [1, 5, 0, 5, 2]
    assert learn_tokenizer(["ARARAR", "ACAC"], 12).encode("RY").ids == [1, 0, 0, 2]


def test_another_process_learns_the_same():
    program = (
        "import json, sys; from virnuc_dask.lab.speed.tokenizer import learn_tokenizer\n"
        "sys.stdout.write(learn_tokenizer(json.load(sys.stdin), 120).to_str())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(dna()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == learn_tokenizer(dna(), 120).to_str()


@pytest.mark.parametrize(("before", "after"), [(None, "false"), ("false", "false"), ("1", "1")])
def test_all_cores_tokenize_only_as_long_as_asked(tokenizer, monkeypatch, before, after):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "")  # so that it is restored in any case
    if before is None:
        monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    else:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", before)
    alone = [encoding.ids for encoding in tokenizer.encode_batch_fast(dna())]
    with tokenizing_in_parallel():
        assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
        together = [encoding.ids for encoding in tokenizer.encode_batch_fast(dna())]
    assert os.environ["TOKENIZERS_PARALLELISM"] == after
    assert together == alone
