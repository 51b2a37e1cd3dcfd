"""What an encoder costs, told from its sizes."""

import pytest
import torch

from virnuc_dask.encoders.cost import ESM2, esm2_name, esm2_parameters, layer_of
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import Esm2Module, Esm2Sizes


@pytest.mark.parametrize("name", ESM2)
def test_a_published_esm2_is_known_by_its_sizes_and_counted_as_it_is(name):
    layers, dim, heads = ESM2[name]
    assert esm2_name(layers, dim, heads) == f"ESM-2 {name}"
    assert esm2_name(layers, dim, heads + 1) is None
    with torch.device("meta"):
        module = Esm2Module(Esm2Sizes(layers, dim, heads))
    counted = sum(parameter.numel() for parameter in module.parameters())
    assert esm2_parameters(layers, dim) == counted
    # Two operations for each weight of a product, and attention besides.
    products = sum(p.numel() for p in module.layers.parameters() if p.ndim == 2)
    sizes = {"layers": layers, "embed_dim": dim, "heads": heads}
    layer = layer_of(EncoderSpec("esm2", dim, "x", sizes))
    assert layer is not None
    assert layer.flops_per_token(168) == 2 * products + 4 * 168 * dim * layers
