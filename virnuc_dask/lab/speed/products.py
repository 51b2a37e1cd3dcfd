"""The matrix products that an encoder is made of, and how fast this machine does nothing else.

What a machine's data sheet promises is not what its libraries reach for these shapes; the rate
measured here is the ceiling that an encoder is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, Timer

from virnuc_dask.encoders.cost import Layer
from virnuc_dask.encoders.fp8 import multiply
from virnuc_dask.encoders.kernels import FusedProducts, multiplies_fused

# Rows of a product: the tokens of a batch. The best of them counts.
ROWS = {"cpu": (504, 1008, 2016, 4032), "cuda": (8064, 32256, 64512)}
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
}
Product = Callable[[Tensor, nn.Linear], Tensor]


def timed(work: Callable[[], object], least_s: float) -> Measurement:
    """``work``, warmed up, again and again for so long; its GPU is awaited, all threads take part.

    What disturbs a machine only slows it down: of short pieces of work the fastest may count.
    """
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=least_s)


def gemm_rate(
    layer: Layer,
    precision: str,
    device: str = "cpu",
    budget_s: float = 1.0,
    rows: Sequence[int] | None = None,
) -> float:
    """Floating-point operations a second of a layer's products and nothing else, in about so long.

    The best pass of all numbers of rows (tokens a batch, default `ROWS`), on a CPU by the faster of
    the two libraries that torch brings along, MKL and oneDNN. ``precision`` is a key of `DTYPES`.
    """
    choices = rows or ROWS[device]
    best = 0.0
    for count in choices:
        pairs = _operands(layer, count, DTYPES[precision], device)
        flops = 2 * count * sum(inner * columns for inner, columns in layer.linears)
        for product in _ways(precision, device):
            spent = timed(lambda p=product, of=pairs: _pass(p, of), budget_s / len(choices))  # type: ignore[misc]
            best = max(best, flops / min(spent.times))
    return best


@torch.inference_mode()
def _pass(product: Product, pairs: Sequence[tuple[Tensor, nn.Linear]]) -> None:
    for values, weights in pairs:
        product(values, weights)


def _by_torch(values: Tensor, weights: nn.Linear) -> Tensor:
    return weights(values)  # type: ignore[no-any-return]


def _in_8_bits(values: Tensor, weights: nn.Linear) -> Tensor:
    rows, columns = values.new_ones(len(values), 1, dtype=torch.float32), weights.weight.shape[0]
    return multiply(values, rows, weights.weight, rows.new_ones(1, columns))


def _ways(precision: str, device: str) -> tuple[Product, ...]:
    """The products that this machine has in a precision."""
    if precision == "fp8":
        return (_in_8_bits,)
    if device == "cpu" and multiplies_fused(DTYPES[precision]):
        return _by_torch, FusedProducts().linear
    return (_by_torch,)


def _operands(
    layer: Layer, rows: int, dtype: torch.dtype, device: str
) -> list[tuple[Tensor, nn.Linear]]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    def weights(inner: int, columns: int) -> nn.Linear:
        product = nn.Linear(inner, columns, bias=False, device="meta")
        product.weight = nn.Parameter(draw(columns, inner), requires_grad=False)
        return product

    return [(draw(rows, inner), weights(inner, columns)) for inner, columns in layer.linears]
