"""A training's state on disk: weights, optimiser and progress, whole or not there.

One safetensors file, which holds numbers and text and nothing that could be run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from virnuc_dask.errors import ModelSetError
from virnuc_dask.tables.parquet import written_whole

# What AdamW keeps for each parameter, besides the number of steps.
_MOMENTS = ("exp_avg", "exp_avg_sq")
_WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is: the next batch is number ``batch`` (from 0) of round ``round``."""

    step: int = 0
    tokens: int = 0
    round: int = 1
    batch: int = 0


def write_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.AdamW, progress: Progress
) -> None:
    """Write all that `read_checkpoint` needs to go on as if nothing had happened."""
    tensors = {}
    for name, parameter in network.named_parameters():
        parts = {_WEIGHT: parameter.detach()} | optimizer.state[parameter]
        for part in (_WEIGHT, *_MOMENTS):
            tensors[f"{part}.{name}"] = parts[part].cpu().contiguous()
    progress_text = json.dumps(asdict(progress))
    metadata = {"progress": progress_text, "digest": _digest(tensors, progress_text)}
    with written_whole(path) as stream:
        stream.write(save(tensors, metadata))


def read_checkpoint(path: Path, network: nn.Module, optimizer: torch.optim.AdamW) -> Progress:
    """Give ``network`` and ``optimizer`` the state of `write_checkpoint`; no file: nothing.

    Raises
    ------
    ModelSetError
        If the file is damaged or belongs to another network. Nothing is changed then.
    """
    if not path.exists():
        return Progress()
    try:
        tensors, metadata = _read(path)
        if metadata["digest"] != _digest(tensors, metadata["progress"]):
            raise ValueError("its digest is not that of its content")
        progress = Progress(**json.loads(metadata["progress"]))
        for name, tensor in _expected(network):
            if tensors[name].shape != tensor.shape:
                raise ValueError(f"{name} has another shape than in the network")
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise ModelSetError(
            f"{path}: damaged, or of another training ({error}). Delete it to train this encoder "
            "from its first step."
        ) from error
    _restore(network, optimizer, tensors, progress.step)
    return progress


def _restore(
    network: nn.Module, optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor], step: int
) -> None:
    names = {parameter: name for name, parameter in network.named_parameters()}
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[f"{_WEIGHT}.{name}"])
    state = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state["state"] = {
        number: {"step": torch.tensor(float(step))}
        | {moment: tensors[f"{moment}.{names[parameter]}"] for moment in _MOMENTS}
        for number, parameter in enumerate(parameters)
    }
    optimizer.load_state_dict(state)


def _expected(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names of all tensors of a checkpoint, each with one of the shape it must have."""
    for name, parameter in network.named_parameters():
        for part in (_WEIGHT, *_MOMENTS):
            yield f"{part}.{name}", parameter


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def _digest(tensors: Mapping[str, Tensor], progress: str) -> str:
    digest = xxhash.xxh3_128(progress.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().data)
    return str(digest.hexdigest())
