from dataclasses import replace

import pytest

from virnuc_dask import load_settings
from virnuc_dask.lab.speed.recommendation import (
    Trial,
    as_yaml,
    best_max_tokens,
    best_precision,
    seconds_per_frame,
)

DNA = Trial("dna", "dna", "fp32", 4096, 100.0, 100.0, 1.0, 0.0, 0, 0)
PEPTIDE = Trial("peptide", "peptide", "fp32", 4096, 168.0, 168.0, 1.0, 0.0, 0, 0)


def tried(trial, **changes):
    return replace(trial, **changes)


def test_an_encoder_without_a_choice_counts_in_all():
    trials = [DNA, PEPTIDE, tried(PEPTIDE, precision="bf16", tokens_per_s=336.0)]
    spent = seconds_per_frame(trials, lambda trial: trial.precision)
    assert spent == pytest.approx({"fp32": 2.0, "bf16": 1.5})


@pytest.mark.parametrize(
    ("rate", "cosine", "best"),
    [(200.0, 0.9995, "bf16"), (200.0, 0.9985, "fp32"), (101.0, 1.0, "fp32")],
    ids=["fast and near", "too far from fp32", "not worth it"],
)
def test_a_precision_must_be_fast_and_near(rate, cosine, best):
    in_bf16 = tried(DNA, precision="bf16", tokens_per_s=rate, smallest_cosine_to_fp32=cosine)
    assert best_precision([DNA, in_bf16]) == best


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({512: 80.0, 1024: 99.0, 2048: 100.0, 4096: 100.0}, 1024),
        ({512: 80.0, 1024: 90.0, 2048: 100.0}, 2048),
        ({512: 100.0, None: 99.0}, None),
        ({512: 100.0, None: 90.0}, 512),
    ],
)
def test_the_fewest_tokens_that_are_as_good_are_best(rates, best):
    trials = [tried(DNA, max_tokens=n, tokens_per_s=rate) for n, rate in rates.items()]
    assert best_max_tokens(trials) == best


@pytest.mark.parametrize(("max_tokens", "threads"), [(2048, 1), (None, None)])
def test_settings_take_what_is_recommended(tmp_path, max_tokens, threads):
    cluster = {"kind": "cpu", "workers": 2, "threads": threads}
    path = tmp_path / "machine.yaml"
    path.write_text(as_yaml("bf16", max_tokens, cluster))
    settings = load_settings(path)
    assert settings.precision == "bf16"
    assert settings.max_tokens == (max_tokens or load_settings().max_tokens)
    assert (settings.cluster.workers, settings.cluster.threads) == (2, threads)
