from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from virnuc_dask.encoders.attention import (
    AlibiBias,
    RotaryTables,
    alibi_slopes,
    inverse_frequencies,
)


@pytest.mark.parametrize(
    ("heads", "powers"),
    [
        (1, [8]),
        (4, [2, 4, 6, 8]),
        (3, [4, 8, 2]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),  # those of 8, some of those of 16
    ],
)
def test_alibi_slopes(heads, powers):
    """A geometric sequence, filled up from the next one, as its paper states it."""
    assert alibi_slopes(heads) == pytest.approx([2**-power for power in powers], rel=1e-12)


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
