"""Products in 8 bits, on a CPU: it has the same products, only slowly. Speed is for a GPU."""

import copy

import pytest
import torch
from torch import nn

from virnuc_dask.encoders import esm2
from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.encoders.esm2 import Esm2, Esm2Module, Esm2Sizes
from virnuc_dask.encoders.fp8 import Fp8Linear, check_gpu
from virnuc_dask.errors import ModelSetError
from virnuc_dask.lab.speed.encoders import smallest_cosine
from virnuc_dask.lab.speed.random_weights import (
    ESM2_SIZES,
    write_esm2,
)


def linear(inputs: int, outputs: int) -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(inputs, outputs)


@torch.inference_mode()
def test_a_large_token_and_one_of_zeros_do_not_disturb_their_neighbours():
    exact = linear(64, 32)
    quiet = torch.randn(1, 64).bfloat16()
    loud, silent = 1e4 * torch.randn(1, 64).bfloat16(), torch.zeros(1, 64).bfloat16()
    ours = Fp8Linear(exact)
    together = ours(torch.cat([loud, quiet, silent]))
    assert torch.equal(together[1], ours(quiet)[0])
    assert torch.equal(together[2], exact.bias.bfloat16())
    assert together.isfinite().all()


def test_embeddings_in_8_bits_pass_the_accuracy_gate_in_half_the_memory():
    torch.manual_seed(4)
    sizes = ESM2_SIZES["8M"]
    exact = Esm2Module(sizes)
    exact.inverse_frequencies = inverse_frequencies(sizes.embed_dim // sizes.heads)
    ours = copy.deepcopy(exact)
    for parameter in ours.parameters():
        parameter.data = parameter.data.bfloat16()
    halved = Esm2(ours, Placement("cuda", "fp8")).weight_bytes
    ours.multiply_in_8_bits()
    assert Esm2(ours, Placement("cuda", "fp8")).weight_bytes < 0.52 * halved
    tokens = torch.randint(4, 24, (8, 168), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = [module(tokens)[:, 1:-1].mean(1, dtype=torch.float32) for module in (ours, exact)]
    assert smallest_cosine(*(each.numpy() for each in found)) >= 0.999


def test_an_older_gpu_is_refused_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    with pytest.raises(ModelSetError, match=r"8\.9 .* NVIDIA A100 is older.* choose fp16"):
        check_gpu()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    check_gpu()


def test_esm2_is_loaded_as_bf16_and_then_multiplied_in_8_bits(tmp_path, monkeypatch):
    spec = write_esm2(Esm2Sizes(2, 32, 2), tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))

    def on_cpu(build, path, placement):
        assert placement.dtype == torch.bfloat16
        module = build()
        return module.bfloat16()

    monkeypatch.setattr(esm2, "load_module", on_cpu)
    encoder = load_encoder(spec, tmp_path, Placement("cuda", "fp8"))
    assert all(isinstance(layer.down, Fp8Linear) for layer in encoder.module.layers)
    assert encoder.module.norm.weight.dtype == torch.bfloat16
