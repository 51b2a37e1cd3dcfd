from dataclasses import replace

import pytest

from virnuc_dask.lab.speed.recommendation import (
    Trial,
    best_max_tokens,
    best_precision,
)

DNA = Trial("dna", "dna", "fp32", 4096, 100.0, 100.0, 1.0, 0.0, 0, 0)


def tried(trial, **changes):
    return replace(trial, **changes)


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
