"""Both transformers' fast paths against the plain modules, and how batches reach the device."""

import numpy as np
import pytest
import torch

from virnuc_dask.encoders import transformer
from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSOnCpu, DnabertSSizes
from virnuc_dask.encoders.encoder import Placement
from virnuc_dask.encoders.esm2 import Esm2, Esm2Module, Esm2OnCpu, Esm2Sizes
from virnuc_dask.encoders.kernels import products_for
from virnuc_dask.encoders.processor import AVX2, AVX512
from virnuc_dask.encoders.transformer import fitting_tokens

# The least cosine to fp32 that an embedding may have in each precision.
GATE = {torch.float32: 0.999999, torch.bfloat16: 0.999}


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
        for norm in (m for m in module.modules() if isinstance(m, torch.nn.LayerNorm)):
            norm.weight += 1
    return module.eval().requires_grad_(False)


def esm2(layers: int = 6, dim: int = 320, heads: int = 20) -> Esm2Module:
    module = Esm2Module(Esm2Sizes(layers, dim, heads))
    module.inverse_frequencies.copy_(inverse_frequencies(dim // heads))
    return drawn(module)


def dnabert_s() -> DnabertSModule:
    return drawn(DnabertSModule(DnabertSSizes(4, 192, 12, 768, 64)))


def cast(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """As a model set is loaded: weights cast, tables left in fp32."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module


@pytest.mark.parametrize("instructions", [AVX512, AVX2])
@pytest.mark.parametrize("dtype", GATE)
@pytest.mark.parametrize(("build", "on_cpu"), [(esm2, Esm2OnCpu), (dnabert_s, DnabertSOnCpu)])
def test_the_cpu_path_passes_the_accuracy_gate(build, on_cpu, dtype, instructions):
    plain = build()
    fast = on_cpu(cast(build(), dtype), products_for(instructions, dtype))
    with torch.inference_mode():
        for length in (168, 53, 3):
            tokens = torch.randint(4, 30, (5, length), generator=torch.Generator().manual_seed(3))
            exact, near = plain(tokens).mean(1), fast(tokens).mean(1, dtype=torch.float32)
            cosines = torch.cosine_similarity(exact, near)
            assert cosines.min() >= GATE[dtype]
            # A gate that the embedding of another text would pass is none.
            others = torch.cosine_similarity(exact, near.roll(1, 0))
            assert others.max() < cosines.min()


class Compiled:
    """In the place of torch.compile: notes the shapes that reach the compiled module."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, module, *, dynamic):
        assert dynamic is False

        def forward(tokens):
            self.shapes.append(tuple(tokens.shape))
            return module(tokens)

        return forward


def test_only_full_batches_are_compiled_and_results_stay(monkeypatch):
    compiled = Compiled()
    monkeypatch.setattr(torch, "compile", compiled)
    module = esm2(1, 32, 4)
    rng = np.random.default_rng(5)
    peptides = ["".join(rng.choice(list("ACDEFGHIKLM"), 10)) for _ in range(7)] + ["ACD", "MK"]
    eager = Esm2(module, Placement(max_tokens=36))
    fast = Esm2(module, Placement(max_tokens=36, compile=True))
    assert np.allclose(fast.embed(peptides), eager.embed(peptides), atol=1e-6)
    # Three texts of twelve tokens a batch; the third batch is filled, the short ones are not.
    assert compiled.shapes == [(3, 12)] * 3


@pytest.mark.parametrize(
    ("free_gb", "dim", "tokens"),
    [(70, 2560, 65536), (70, 1280, 65536), (8, 2560, 32768), (3, 2560, 16384), (0.1, 2560, 4096)],
)
def test_a_gpus_free_memory_decides_the_tokens_of_a_batch(monkeypatch, free_gb, dim, tokens):
    memory = (int(free_gb * 2**30), 80 * 2**30)
    monkeypatch.setattr(transformer.torch.cuda, "mem_get_info", lambda: memory)
    assert fitting_tokens(dim, Placement("cuda", "fp16")) == tokens
    assert fitting_tokens(dim, Placement("cuda", "fp32")) <= tokens
