import bench_encoders
import numpy as np
import pytest
from peers import FairEsm, PlainDnabertS, Transformers

from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.lab.speed.encoders import Subject
from virnuc_dask.lab.speed.random_weights import (
    DNABERT_S_SIZES,
    ESM2_SIZES,
    write_dnabert_s,
    write_esm2,
)


@pytest.fixture
def esm2(tiny, tmp_path):
    return Subject("ESM-2", write_esm2(ESM2_SIZES["8M"], tmp_path), tmp_path, 60)


@pytest.fixture
def dnabert_s(tiny, tmp_path):
    spec = write_dnabert_s(DNABERT_S_SIZES["small"], tmp_path)
    return Subject("DNABERT-S", spec, tmp_path, 90)


def test_alternatives_compute_what_ours_does(esm2, dnabert_s, tmp_path):
    for subject, peers in (
        (esm2, (FairEsm, lambda *given: Transformers(*given, "fp32", max_tokens=50))),
        (dnabert_s, (PlainDnabertS,)),
    ):
        texts = subject.draw_texts(5)
        ours = load_encoder(subject.spec, tmp_path, Placement()).embed(texts)
        for peer in peers:
            theirs = peer(subject.spec, tmp_path, "cpu").embed(texts)
            np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.usefixtures("tiny")
def test_chosen_variants_are_compared_with_the_first(program, monkeypatch):
    monkeypatch.setattr(bench_encoders, "precisions", lambda device: ("fp32", "bf16"))
    options = ("--texts", 6, "--gemm-s", 0.05, "--repeats", 3, "--threads", 1)
    options += ("--sizes", "8M", "--dnabert-s", "small", "--variants", "ours_fp32", "ours_bf16")
    figures = program(bench_encoders, *options)
    found = figures["esm2"]["8M"]
    assert {name for name in found if "_fp32" in name or "_bf16" in name} == {
        *("fair_esm_fp32", "ours_fp32", "ours_bf16")
    }
    assert found["tokens_per_text"] == 168
    assert found["fair_esm_fp32"]["ratio_to_fair_esm_fp32"] == 1
    assert found["ours_fp32"]["smallest_cosine"] == pytest.approx(1, abs=1e-6)
    assert 0.99 < found["ours_bf16"]["smallest_cosine"] <= 1
    assert len(found["ours_bf16"]["turns_s"]) == 3
    assert figures["dnabert_s"]["small"]["ours_bf16"]["tokens_per_s"] > 0
