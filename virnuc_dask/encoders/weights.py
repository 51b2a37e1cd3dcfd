"""Read an encoder's weights: built without memory, filled from safetensors, cast once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from virnuc_dask.encoders.encoder import LARGEST_SIZE, EncoderSpec, Placement
from virnuc_dask.encoders.precision import FOR_GPUS
from virnuc_dask.errors import ModelSetError

_MOST_LAYERS = 1024

Sizes = TypeVar("Sizes")
Module = TypeVar("Module", bound=nn.Module)


def read_sizes(spec: EncoderSpec, sizes: type[Sizes]) -> Sizes:
    """The sizes that ``spec`` carries in its ``config``.

    Raises
    ------
    ModelSetError
        If one is missing or unknown, or if they make other embeddings than ``spec.dim``.
    """
    try:
        read = sizes(**spec.config)
        if wrong := [name for name, value in spec.config.items() if not _is_size(name, value)]:
            raise TypeError(f"{wrong[0]} is {spec.config[wrong[0]]!r}")
        if spec.dim % read.heads:  # type: ignore[attr-defined]
            raise TypeError(f"{spec.dim} values do not split evenly into heads")
    except TypeError as error:
        raise ModelSetError(
            f"encoder {spec.architecture!r}: its sizes in modelset.json are wrong ({error}). "
            "Import the model set again."
        ) from error
    if read.embed_dim != spec.dim:  # type: ignore[attr-defined]
        raise ModelSetError(
            f"encoder {spec.architecture!r}: dim {spec.dim} and embed_dim of its sizes differ. "
            "Import the model set again."
        )
    return read


def load_module(build: Callable[[], Module], path: Path, placement: Placement) -> Module:
    """Build a module on the meta device and give it the tensors of ``path``, ready to infer.

    Parameters become ``placement.dtype``, buffers (tables of numbers, no weights) stay fp32.
    Tensors are cast one by one on the way to the device, so the peak is the module itself.

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


def weight_bytes(module: nn.Module) -> int:
    """Memory of a module's parameters and buffers, in bytes."""
    return sum(tensor.nbytes for tensor in module.state_dict().values())


def _is_size(name: str, value: object) -> bool:
    """Whether a value can be a size: sizes from a file must not make a module without end."""
    if isinstance(value, bool):
        return name == "token_dropout"
    if isinstance(value, float):
        return name == "layer_norm_eps" and 0 < value < 1
    return isinstance(value, int) and 0 < value <= (
        _MOST_LAYERS if name == "layers" else LARGEST_SIZE
    )


def _read_tensors(path: Path, dtypes: Mapping[str, torch.dtype], device: str) -> dict[str, Any]:
    with safe_open(path, framework="pt", device=device) as file:
        names = file.keys()
        return {name: file.get_tensor(name).to(dtypes.get(name, torch.float32)) for name in names}
