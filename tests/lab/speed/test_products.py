import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from virnuc_dask.encoders.cost import layer_of
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes
from virnuc_dask.encoders.esm2 import Esm2Module, Esm2Sizes
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


@pytest.mark.parametrize(
    ("write", "sizes", "kind"),
    [(write_esm2, ESM2, Esm2Module), (write_dnabert_s, DNABERT_S, DnabertSModule)],
)
def test_flops_are_those_that_torch_counts(tmp_path, write, sizes, kind):
    flops = layer_of(write(sizes, tmp_path)).flops_per_token(TOKENS) * BATCH * TOKENS
    assert flops == counted(kind(sizes))
