"""Published checkpoint files → named tensors, running nothing that is in them.

A checkpoint is a pickle, and a pickle is a program. torch's ``weights_only`` reader builds
tensors and plain containers and refuses all else; the few classes that published files name
besides are replaced by `Inert`, which has no behaviour that a file could use.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from virnuc_dask.errors import ModelSetError

# What torch's reader raises on bytes that are no checkpoint: it interprets them, so the errors
# are those of an interpreter. Every one means the same to the user.
_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, AssertionError, AttributeError, EOFError, LookupError),
    *(MemoryError, OSError, OverflowError, RuntimeError, TypeError, ValueError),
)
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)
_WEIGHT_FILES = (
    *("model.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


class Inert:
    """Replaces a class that a checkpoint names: holds its state and does nothing."""

    state: Mapping[str, Any] = {}

    def __new__(cls) -> Inert:
        """Take no arguments: published files pass none."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        if type(state) is not dict:
            raise pickle.UnpicklingError("an object's state is not a dictionary")
        self.state = state

    def table(self, name: str) -> Mapping[str, Any]:
        """The dictionary ``name`` of the state, empty if there is none."""
        found = self.state.get(name)
        return found if isinstance(found, dict) else {}


class Published(dict[str, Tensor]):
    """The tensors of a published checkpoint by name; a missing one is a `ModelSetError`."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.path = path

    def __missing__(self, name: str) -> Tensor:
        raise ModelSetError(f"{self.path}: has no tensor {name!r}. Is it the right file?")

    def without_prefix(self, *prefixes: str) -> Published:
        """The same tensors, the first of ``prefixes`` that a name starts with cut off."""
        short = {}
        for name, tensor in self.items():
            prefix = next((p for p in prefixes if name.startswith(p)), "")
            short[name.removeprefix(prefix)] = tensor
        return Published(self.path, short)


def check_tensors(path: Path, content: object) -> Published:
    """The content of a checkpoint; `ModelSetError` unless it is plain tensors of finite numbers."""
    if not isinstance(content, Mapping) or not content:
        raise ModelSetError(f"{path}: holds no named tensors. Is it the right file?")
    for name, tensor in content.items():
        if not isinstance(name, str) or not _is_plain(tensor):
            raise ModelSetError(
                f"{path}: {name!r} is not a plain tensor of finite numbers; refused. "
                "Get the file again from its source."
            )
    # Entries of a zip file, and tensors of one storage, can overlap and so be of any size.
    # Published files name one tensor twice at most.
    claimed = sum(tensor.nbytes for tensor in content.values())
    if claimed > 2 * path.stat().st_size:
        raise ModelSetError(
            f"{path}: refused, its tensors claim {claimed:,} bytes, more than it holds. "
            "Get the file again from its source."
        )
    return Published(path, {name: tensor.detach() for name, tensor in content.items()})


def read_checkpoint(path: Path, inert: Collection[str] = ()) -> Any:
    """Read a file of ``torch.save``, in the zip format, tensors left on disk until they are used.

    Objects of the classes ``inert``, full names, are read as `Inert`. `ModelSetError` if the file
    is missing, is damaged, or names any other class or function.
    """
    _check_archive(path)
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in inert]):
            refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            if not refused:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _UNREADABLE as error:
        raise ModelSetError(
            f"{path}: damaged, or not a checkpoint of weights ({type(error).__name__}); nothing "
            "of it was run. Get the file again from its source."
        ) from error
    raise ModelSetError(
        f"{path}: refused, nothing of it was run: besides weights it would call "
        f"{', '.join(sorted(refused))}. Get the file from its authors, or as safetensors."
    )


def read_tensors(path: Path) -> Published:
    """Tensors of a safetensors file, or of a checkpoint that is a dictionary; `ModelSetError`."""
    if path.suffix != ".safetensors":
        return check_tensors(path, read_checkpoint(path))
    try:
        return check_tensors(path, load_file(path))
    except (SafetensorError, OSError) as error:
        raise ModelSetError(
            f"{path}: not a safetensors file ({error}). Get it again from its source."
        ) from error


def read_folder(folder: Path) -> Published:
    """All weights of a Hugging Face model folder, in one file or several; `ModelSetError`.

    Layer norms of some files have ``gamma`` and ``beta``; they become ``weight`` and ``bias``.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        tensors |= read_tensors(path)
    for old, present in (("gamma", "weight"), ("beta", "bias")):
        for name in [name for name in tensors if name.endswith(f"LayerNorm.{old}")]:
            tensors[name.removesuffix(old) + present] = tensors.pop(name)
    return Published(folder, tensors)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a Hugging Face model folder, safetensors preferred.

    `ModelSetError` if there are none, or the index of a split model names a file elsewhere.
    """
    for name in _WEIGHT_FILES:
        if (folder / name).is_file():
            return _split_files(folder / name) if name.endswith(".json") else [folder / name]
    raise ModelSetError(
        f"{folder}: no model here, none of {', '.join(_WEIGHT_FILES)}. "
        "Give the folder that was downloaded, with all its files."
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; `ModelSetError` if it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelSetError(
            f"{path}: missing or damaged ({error}). Download the folder again."
        ) from error
    if not isinstance(content, dict):
        raise ModelSetError(f"{path}: not a JSON object. Download the folder again.")
    return content


def _split_files(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ModelSetError(f"{index}: does not list files of its folder. Download it again.")
    return [index.with_name(name) for name in sorted(names)]


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise ModelSetError(f"{path}: no such file.")
    if not zipfile.is_zipfile(path):
        raise ModelSetError(
            f"{path}: cut short, or not a checkpoint in torch's zip format. Get the file again "
            "from its source; one saved by torch before 1.6 must be saved anew by a newer one."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ModelSetError(f"{path}: damaged ({error}). Get it again from its source.") from error
    # torch never compresses: a compressed entry can only be there to unfold in memory.
    if not stored:
        raise ModelSetError(
            f"{path}: refused, it has compressed entries, which torch never writes."
        )


def _is_plain(tensor: object) -> bool:
    return (
        isinstance(tensor, Tensor)
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.dtype in _DTYPES
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()  # a view with repeated rows could claim any size
        and bool(tensor.isfinite().all())
    )
