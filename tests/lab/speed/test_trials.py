import numpy as np
import pytest
import torch

from virnuc_dask.encoders.dnabert_s import DnabertSSizes
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.lab.speed import trials
from virnuc_dask.lab.speed.random_weights import write_dnabert_s, write_esm2
from virnuc_dask.lab.speed.trials import (
    Subject,
    agreement,
    count_tokens,
    measure,
    smallest_cosine,
    sweep,
)

LENGTH = 60


@pytest.fixture(params=["esm2", "dnabert_s"])
def subject(request, tmp_path):
    if request.param == "esm2":
        spec = write_esm2(Esm2Sizes(layers=2, embed_dim=32, heads=4), tmp_path)
    else:
        sizes = DnabertSSizes(layers=2, embed_dim=32, heads=4, mlp_dim=64, vocabulary=64)
        spec = write_dnabert_s(sizes, tmp_path)
    return Subject("tiny", spec, tmp_path, LENGTH)


def test_an_encoder_gets_the_texts_it_reads(subject):
    texts = subject.draw_texts(6)
    assert len(texts) == 6
    letters = set("".join(texts))
    assert (letters <= set("ACGT")) == (subject.kind == trials.DNA)


def test_tokens_are_counted_as_the_module_sees_them(subject):
    encoder = load_encoder(subject.spec, subject.folder, Placement())
    seen: list[int] = []
    encoder.module.register_forward_hook(lambda module, args, out: seen.append(args[0].numel()))
    texts = subject.draw_texts(6)
    encoder.embed(texts)
    assert count_tokens(encoder, texts) == sum(seen)


def test_a_trial_tells_rate_memory_and_what_was_tried(subject):
    trial = measure(subject, Placement(precision="bf16", max_tokens=256), budget_s=0.1)
    assert (trial.label, trial.precision, trial.max_tokens) == ("tiny", "bf16", 256)
    assert trial.tokens_per_s > 0
    assert trial.texts_per_s == pytest.approx(trial.tokens_per_s / trial.tokens_per_text)
    assert trial.gflops_per_s > 0
    assert trial.peak_ram_bytes > 1e7


def test_a_sweep_ends_where_memory_does(subject, monkeypatch):
    def little_memory(subject, placement, budget_s):
        if placement.max_tokens > 200:
            raise torch.OutOfMemoryError("too much")
        return placement.max_tokens

    monkeypatch.setattr(trials, "measure", little_memory)
    choices = [Placement(max_tokens=n) for n in (100, 200, 400, 800)]
    assert list(sweep(subject, choices, 1.0).values()) == [100, 200]


def test_bf16_is_near_fp32_but_not_the_same(subject):
    assert 0.99 < agreement(subject, Placement(precision="bf16")) < 1


def test_the_smallest_cosine_is_that_of_the_worst_row():
    exact = np.eye(3, dtype=np.float32)
    ours = np.array([[2, 0, 0], [0, 1, 0], [0, 1, 1]], np.float32)
    assert smallest_cosine(ours, exact) == pytest.approx(2**-0.5)
