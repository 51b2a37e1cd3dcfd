from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from virnuc_dask.encoders.attention import (
    AlibiBias,
    RotaryTables,
    alibi_slopes,
    inverse_frequencies,
)


def slow_slopes(heads: int) -> list[float]:
    """ALiBi's rule as its paper states it: a geometric sequence, filled up from the next one."""
    if heads & (heads - 1) == 0:
        ratio = 2 ** (-8 / heads)
        return [ratio**i for i in range(1, heads + 1)]
    below = 1
    while below * 2 < heads:
        below *= 2
    return slow_slopes(below) + slow_slopes(2 * below)[::2][: heads - below]


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 8, 12, 20, 40])
def test_alibi_slopes(heads):
    assert alibi_slopes(heads) == pytest.approx(slow_slopes(heads), rel=1e-12)


def test_alibi_bias_falls_with_the_distance_whatever_was_asked_before_or_where_it_was_made():
    with torch.device("meta"):
        alibi = AlibiBias(12)
    for tokens in (5, 200, 5, 64, 65, 300):
        place = torch.arange(tokens)
        distance = (place[:, None] - place).abs()
        expected = -torch.tensor(alibi_slopes(12))[None, :, None, None] * distance
        assert torch.equal(alibi.up_to(tokens, torch.empty(())), expected)


def test_alibi_bias_rows_are_aligned_for_fused_kernels():
    bias = AlibiBias(12).up_to(101, torch.empty((), dtype=torch.bfloat16))
    assert bias.dtype == torch.bfloat16
    assert bias.stride(-1) == 1
    assert bias.stride(-2) % 8 == 0


def test_threads_share_tables():
    alibi, rotary = AlibiBias(12), RotaryTables()
    frequencies = inverse_frequencies(16)

    def shapes(tokens):
        bias = alibi.up_to(tokens, torch.empty(()))
        return bias.shape[-1], len(rotary.up_to(tokens, frequencies)[0])

    lengths = [7, 500, 90, 300, 2, 129] * 20
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shapes, lengths)) == [(tokens, tokens) for tokens in lengths]
