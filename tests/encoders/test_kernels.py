"""What the CPU computes against torch's own layers and attention."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from virnuc_dask.encoders import kernels
from virnuc_dask.encoders.kernels import (
    LOG2_E,
    FusedProducts,
    PackedProducts,
    Products,
    attend_in_cache,
    multiplies_fused,
    products_for,
)
from virnuc_dask.encoders.processor import AVX2, AVX512, PLAIN

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}


def random_parts(tokens, heads, head_dim, dtype, size=1.0):
    generator = torch.Generator().manual_seed(4)
    parts = torch.randn(3, 5, tokens, heads, head_dim, generator=generator) * size
    return parts.to(dtype).unbind()


def attention_of_torch(query, key, value, bias=None):
    parts = (part.float().transpose(1, 2) for part in (query, key, value))
    by_query = None if bias is None else bias.transpose(1, 2)
    return scaled_dot_product_attention(*parts, attn_mask=by_query).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(168, 20, 16), (52, 20, 24), (3, 1, 4)])
def test_attention_is_torchs(tokens, heads, head_dim, dtype):
    parts = random_parts(tokens, heads, head_dim, dtype)
    difference = attend_in_cache(*parts).float() - attention_of_torch(*parts)
    assert difference.abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_bias_is_added_to_the_scores(dtype):
    parts = random_parts(102, 12, 64, dtype)
    bias = -torch.rand(12, 102, 102)
    computed = attend_in_cache(*parts, bias=(bias * LOG2_E).to(dtype)).float()
    assert (computed - attention_of_torch(*parts, bias)).abs().max() < TOLERANCE[dtype]
    assert (computed - attention_of_torch(*parts)).abs().max() > 4 * TOLERANCE[dtype]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_scores_beyond_the_range_of_exponentials_are_computed_by_torch(dtype, biased, monkeypatch):
    query, key, value = random_parts(7, 2, 8, dtype)
    query[2] *= 300  # overflows
    key[4] = -10 * query[4].sign().mean((0, 1)) * 40  # vanishes, for some tokens
    again = []
    by_torch = kernels._attend_by_torch
    monkeypatch.setattr(
        kernels, "_attend_by_torch", lambda *given: again.append(1) or by_torch(*given)
    )
    bias = torch.rand(2, 7, 7) if biased else None
    scaled = None if bias is None else (bias * LOG2_E).to(dtype)
    computed = attend_in_cache(query, key, value, scaled).float()
    expected = attention_of_torch(query, key, value, bias)
    assert again
    assert computed.isfinite().all()
    untouched = [0, 1, 3]
    assert (computed - expected)[untouched].abs().max() < TOLERANCE[dtype]
    if dtype == torch.float32:  # in bf16 a score of thousands has no digits left to compare
        assert torch.allclose(computed, expected, atol=1e-4)


@pytest.mark.parametrize("scores", [1, 3 * 20 * 20])
def test_attention_does_not_depend_on_how_many_texts_or_heads_are_in_work(monkeypatch, scores):
    parts = random_parts(20, 4, 8, torch.float32)
    bias = torch.rand(4, 20, 20)
    together = attend_in_cache(*parts, bias)
    monkeypatch.setattr(kernels, "_SCORES", scores)
    assert torch.equal(attend_in_cache(*parts, bias), together)


@torch.inference_mode()
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("products", [Products(), FusedProducts(), PackedProducts()])
def test_products_are_those_of_the_layer(products, dtype, biased):
    if type(products) is not Products and not multiplies_fused(dtype):
        pytest.skip(f"oneDNN has no product of {dtype} on this processor")
    torch.manual_seed(2)
    layer = nn.Linear(96, 80, bias=biased, dtype=dtype).requires_grad_(False)
    inputs, hidden = torch.randn(3, 7, 96).to(dtype), torch.randn(3, 7, 80).to(dtype)
    plain, kept = layer(inputs), hidden.clone()
    prepared = products.prepared(layer)
    found = (
        products.linear(inputs, prepared),
        products.linear_gelu(inputs, prepared),
        products.linear_onto(hidden, inputs, prepared),
    )
    for ours, expected in zip(found, (plain, gelu(plain), hidden + plain), strict=True):
        assert torch.allclose(ours, expected, TOLERANCE[dtype], TOLERANCE[dtype])
    assert torch.equal(hidden, kept)


@pytest.mark.parametrize(
    ("instructions", "dtype", "pack", "expected"),
    [
        (AVX512, torch.float32, True, FusedProducts),
        (AVX512, torch.bfloat16, True, Products),
        (AVX2, torch.float32, True, PackedProducts),
        (AVX2, torch.bfloat16, True, Products),
        (AVX2, torch.float32, False, Products),
        (PLAIN, torch.float32, True, Products),
    ],
)
def test_products_are_chosen_by_instructions_and_what_onednn_has(
    monkeypatch, instructions, dtype, pack, expected
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert type(products_for(instructions, dtype, pack=pack)) is expected
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert type(products_for(instructions, dtype, pack=pack)) is Products
