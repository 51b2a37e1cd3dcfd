"""Read an encoder's weights: built without memory, filled from safetensors, cast once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import nn

from virnuc_dask.checks import build, checked
from virnuc_dask.encoders.encoder import EncoderSpec, Placement, Size
from virnuc_dask.encoders.precision import FOR_GPUS
from virnuc_dask.errors import ModelSetError


@checked
class EncoderSizes:
    """What transformers have in common; none so large that a stranger's file takes all memory."""

    layers: Annotated[int, Field(ge=1, le=1024)]
    embed_dim: Size
    heads: Size

    def __post_init__(self) -> None:
        if self.embed_dim % self.heads:
            raise ValueError(f"has {self.embed_dim} values, which {self.heads} heads cannot share")


Sizes = TypeVar("Sizes", bound=EncoderSizes)
Module = TypeVar("Module", bound=nn.Module)


def read_sizes(spec: EncoderSpec, sizes: type[Sizes]) -> Sizes:
    """The sizes in the ``config`` of ``spec``; `ModelSetError` if they are wrong or not its own."""
    try:
        read = build(sizes, spec.config, "config")
        if read.embed_dim != spec.dim:
            raise ValueError(f"dim {spec.dim} and embed_dim {read.embed_dim} differ")
    except ValueError as error:
        raise ModelSetError(
            f"encoder {spec.architecture!r}: its sizes in modelset.json are wrong ({error}). "
            "Import the model set again."
        ) from error
    return read


def load_module(build: Callable[[], Module], path: Path, placement: Placement) -> Module:
    """Build a module on the meta device and give it the tensors of ``path``, ready to infer.

    Parameters become ``placement.dtype``, buffers stay fp32. Tensors are cast one by one on the
    way to the device, so the peak is the module itself.

    Raises
    ------
    ModelSetError
        If the file is missing or damaged, its tensors do not fit the module, or a CPU shall
        compute in a precision for GPUs.
    """
    if placement.device == "cpu" and placement.precision in FOR_GPUS:
        raise ModelSetError(
            f"precision {placement.precision} is for GPUs: CPUs have no fast products for it. "
            "Choose bf16 or fp32, or --precision auto."
        )
    with torch.device("meta"):
        module = build()
    dtypes = {name: torch.float32 for name, _ in module.named_buffers()}
    dtypes |= {name: placement.dtype for name, _ in module.named_parameters()}
    try:
        tensors = _read_tensors(path, dtypes, placement.device)
    except (SafetensorError, OSError) as error:
        raise ModelSetError(
            f"{path}: missing or damaged ({error}). Import or download the model set again."
        ) from error
    try:
        module.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelSetError(
            f"{path}: not the weights that modelset.json describes ({error}). "
            "Import or download the model set again."
        ) from error
    return module.eval().requires_grad_(False)


def _read_tensors(path: Path, dtypes: Mapping[str, torch.dtype], device: str) -> dict[str, Any]:
    with safe_open(path, framework="pt", device=device) as file:
        names = file.keys()
        return {name: file.get_tensor(name).to(dtypes.get(name, torch.float32)) for name in names}
