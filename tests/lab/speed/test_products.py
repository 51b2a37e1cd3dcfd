import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from virnuc_dask.encoders.cost import layer_of
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import Esm2Module, Esm2Sizes
from virnuc_dask.lab.speed.products import gemm_rate
from virnuc_dask.lab.speed.random_weights import write_dnabert_s, write_esm2

ESM2 = Esm2Sizes(layers=3, embed_dim=32, heads=4)
DNABERT_S = DnabertSSizes(layers=2, embed_dim=32, heads=4, mlp_dim=48, vocabulary=64)
BATCH, TOKENS = 5, 11


def counted(module):
    """Floating-point operations that torch counts in one forward pass."""
    module = module.to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        module(torch.zeros(BATCH, TOKENS, dtype=torch.int64, device="meta"))
    return counter.get_total_flops()


def test_flops_of_esm2_are_those_that_torch_counts(tmp_path):
    layer = layer_of(write_esm2(ESM2, tmp_path))
    assert layer.flops_per_token(TOKENS) * BATCH * TOKENS == counted(Esm2Module(ESM2))


def test_flops_of_dnabert_s_are_those_that_torch_counts(tmp_path):
    layer = layer_of(write_dnabert_s(DNABERT_S, tmp_path))
    assert layer.flops_per_token(TOKENS) * BATCH * TOKENS == counted(DnabertSModule(DNABERT_S))


def test_n_grams_have_no_products():
    assert layer_of(EncoderSpec("dna_ngrams", 768, "x.safetensors", {"width": 256})) is None


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8"])
def test_the_rate_of_products_is_measured(tmp_path, precision):
    rate = gemm_rate(layer_of(write_esm2(ESM2, tmp_path)), precision, budget_s=0.02, rows=(8, 64))
    assert 1e6 < rate < 1e15
