"""Linear layers whose matrix product is computed in 8-bit floating point, for GPUs that have it.

Weights and input are scaled row by row to the range of float8_e4m3fn, which has 3 bits of
mantissa: a row of the weights is an output value, a row of the input is a token, so that a token
of large values costs no other its precision (Micikevicius et al. 2022,
https://arxiv.org/abs/2209.05433). Sums are kept in fp32 and leave as bf16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import ScalingType, scaled_mm

from virnuc_dask.errors import ModelSetError

_FP8 = torch.float8_e4m3fn
_LARGEST = torch.finfo(_FP8).max
# The first GPUs with fp8 products: Ada and Hopper.
_FIRST_CAPABILITY = (8, 9)


class Fp8Linear(nn.Module):
    """`torch.nn.Linear` in 8 bits: a byte a weight and one scale an output value.

    Inputs and outputs are multiples of 16.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scaled, scale = _scale_rows(linear.weight.detach())
        self.register_buffer("weight", scaled)
        # Output values are the columns of the product.
        self.register_buffer("scale", scale.T.contiguous())
        self.register_buffer("bias", linear.bias.detach().to(torch.bfloat16))

    def forward(self, hidden: Tensor) -> Tensor:
        """Input (…, inputs) → (…, outputs), bf16."""
        rows, scale = _scale_rows(hidden.flatten(0, -2))
        product = multiply(rows, scale, self.weight, self.scale, self.bias)
        return product.reshape(*hidden.shape[:-1], -1)


def multiply(
    rows: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The product of scaled rows and weights, bf16, shape (rows, outputs).

    ``rows`` and ``weight`` are (rows, inputs) and (outputs, inputs), 8 bits; their scales, fp32
    (rows, 1) and (1, outputs), multiply the product; ``bias`` is (outputs), bf16.
    """
    by_row = ScalingType.RowWise
    scales = (scale, by_row, weight_scale, by_row)
    return scaled_mm(rows, weight.T, *scales, bias=bias, output_dtype=torch.bfloat16)


def gpu_multiplies_fp8() -> bool:
    """Whether this process's GPU multiplies 8-bit floating point."""
    return torch.cuda.get_device_capability() >= _FIRST_CAPABILITY


def check_gpu() -> None:
    """`ModelSetError` if this process's GPU is older than Ada and Hopper."""
    if not gpu_multiplies_fp8():
        raise ModelSetError(
            "precision fp8 needs a GPU of compute capability 8.9 or later (Ada, Hopper), and "
            f"{torch.cuda.get_device_name()} is older. Leave --precision out, or choose fp16 or "
            "bf16."
        )


def _scale_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows scaled to the whole range of 8 bits, and what to multiply each with afterwards."""
    largest = values.abs().amax(1, keepdim=True).float()
    # A row of zeros stays one.
    scale = largest.clamp(min=torch.finfo(torch.float32).tiny * _LARGEST) / _LARGEST
    return (values.float() / scale).to(_FP8), scale
