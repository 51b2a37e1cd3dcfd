import json
import sys
from argparse import Namespace

import bench_encoders
import numpy as np
import psutil
import pytest
from bench_encoders import main
from peers import FairEsm, PlainDnabertS, Transformers

from virnuc_dask.encoders.dnabert_s import DnabertSSizes
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed.encoders import Subject
from virnuc_dask.lab.speed.random_weights import write_dnabert_s, write_esm2

ESM2 = Esm2Sizes(layers=2, embed_dim=40, heads=4)
DNABERT_S = DnabertSSizes(layers=2, embed_dim=36, heads=6, mlp_dim=48, vocabulary=64)


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setattr(bench_encoders, "precisions", lambda device: ("fp32", "bf16"))
    monkeypatch.setitem(bench_encoders.ESM2_SIZES, "8M", ESM2)
    monkeypatch.setitem(bench_encoders.DNABERT_S_SIZES, "small", DNABERT_S)

    def called(*options):
        short = ("--texts", "6", "--gemm-s", "0.05", "--repeats", "3", "--threads", "1")
        words = ["bench_encoders.py", "--sizes", "8M", "--dnabert-s", "small", *short, *options]
        monkeypatch.setattr(sys, "argv", words)
        main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return called


def test_esm2_alternatives_compute_what_ours_does(tmp_path):
    subject = Subject("tiny", write_esm2(ESM2, tmp_path), tmp_path, 60)
    peptides = subject.draw_texts(5)
    ours = load_encoder(subject.spec, tmp_path, Placement()).embed(peptides)
    for theirs in (
        FairEsm(subject.spec, tmp_path, "cpu"),
        Transformers(subject.spec, tmp_path, "cpu", "fp32", max_tokens=50),
    ):
        np.testing.assert_allclose(theirs.embed(peptides), ours, atol=1e-5)


def test_the_plain_dnabert_s_computes_what_ours_does(tmp_path):
    subject = Subject("tiny", write_dnabert_s(DNABERT_S, tmp_path), tmp_path, 90)
    texts = subject.draw_texts(5)
    ours = load_encoder(subject.spec, tmp_path, Placement()).embed(texts)
    plain = PlainDnabertS(subject.spec, tmp_path, "cpu").embed(texts)
    np.testing.assert_allclose(plain, ours, atol=1e-5)


def test_the_figures_end_in_a_line_of_json(call, tmp_path):
    figures = call("--out", str(tmp_path / "encoders.json"))
    assert json.loads((tmp_path / "encoders.json").read_text()) == figures
    esm2 = figures["esm2"]["8M"]
    peers = {"fair_esm_fp32", "transformers_fp32", "transformers_bf16"}
    assert peers | {"ours_fp32", "ours_bf16"} <= set(esm2)
    assert esm2["tokens_per_text"] == 168
    assert esm2["fair_esm_fp32"]["ratio_to_fair_esm_fp32"] == 1
    assert esm2["ours_fp32"]["smallest_cosine"] == pytest.approx(1, abs=1e-6)
    assert 0.99 < esm2["ours_bf16"]["smallest_cosine"] <= 1
    assert len(esm2["ours_bf16"]["turns_s"]) == 3
    dnabert_s = figures["dnabert_s"]["small"]
    assert dnabert_s["ours_fp32"]["smallest_cosine"] == pytest.approx(1, abs=1e-6)
    assert figures["versions"]["transformers"]


def test_variants_can_be_chosen(call):
    figures = call("--variants", "ours_bf16")
    assert {name for name in figures["esm2"]["8M"] if "_fp32" in name or "_bf16" in name} == {
        "fair_esm_fp32",
        "ours_bf16",
    }


def test_fp8_is_compared_for_esm2_on_a_gpu_that_has_it(monkeypatch, tmp_path):
    options = Namespace(device="cuda")
    esm2 = Subject("ESM-2", write_esm2(ESM2, tmp_path), tmp_path, 60)
    dnabert_s = Subject("DNABERT-S", write_dnabert_s(DNABERT_S, tmp_path), tmp_path, 60)
    monkeypatch.setattr(bench_encoders, "gpu_multiplies_fp8", lambda: True)
    assert "fp8" in bench_encoders.compared(esm2, options)
    assert "fp8" not in bench_encoders.compared(dnabert_s, options)
    monkeypatch.setattr(bench_encoders, "gpu_multiplies_fp8", lambda: False)
    assert "fp8" not in bench_encoders.compared(esm2, options)


def test_busy_processes_run_beside_it_and_end_with_it():
    with bench_encoders.busy(2):
        loops = [p for p in psutil.Process().children() if "while True: pass" in p.cmdline()]
        assert len(loops) == 2
    assert not any(loop.is_running() for loop in loops)
