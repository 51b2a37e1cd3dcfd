"""A loaded model set: load once, embed, score, release."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from virnuc_dask.encoders.encoder import Encoder, Placement, load_encoder
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.classifier import Classifier, load_classifier
from virnuc_dask.modelsets.environment import prepare_torch
from virnuc_dask.modelsets.registry import ModelSetInfo, find, read_info, verify
from virnuc_dask.modelsets.source import ModelSource

prepare_torch()


@dataclass
class ModelSet:
    """Two encoders and a classifier in memory. ``encoders`` is None where only scores are made."""

    info: ModelSetInfo
    device: str
    classifier: Classifier
    encoders: tuple[Encoder, Encoder] | None  # nucleotide, peptide

    @property
    def weight_bytes(self) -> int:
        """Memory that all weights take, in bytes."""
        own = sum(p.numel() * p.element_size() for p in self.classifier.parameters())
        return own + sum(encoder.weight_bytes for encoder in self.encoders or ())

    def memory_bytes(self) -> int:
        """Memory in use where the model set is; see `memory_bytes`."""
        return memory_bytes(self.device)


def load(source: ModelSource) -> ModelSet:
    """Load a model set after checking every file that is read against its SHA-256.

    Raises
    ------
    ModelSetError
        If it is missing, damaged, another one than planned, or its device is not there.
    """
    folder = find(source.name)
    info = read_info(folder)
    if info.checksum != source.checksum:
        raise ModelSetError(
            f"{folder}: model set {info.name!r} is not the one this run was planned with. "
            "Install the same one on every machine."
        )
    device = resolve_device(source)
    limit_threads(source.threads)
    if device == "cuda":
        torch.cuda.set_per_process_memory_fraction(source.gpu_fraction)
    classifier = _load_classifier(folder, info)
    return ModelSet(
        info=info,
        device=device,
        classifier=classifier,
        encoders=_load_encoders(folder, info, source, device) if source.encoders else None,
    )


def load_modelset(name: str, device: str = "auto", precision: str = "fp32") -> ModelSet:
    """Load a model set by its name or folder, for use from Python."""
    info = read_info(find(name))
    return load(ModelSource.of(name, info, device=device, precision=precision))


def release(models: ModelSet) -> None:
    """Give back the memory of a model set; it cannot be used afterwards."""
    del models.classifier
    models.encoders = None
    gc.collect()
    clear_cache(models.device)


def resolve_device(source: ModelSource) -> str:
    """``cpu`` or ``cuda``: what ``auto`` means on this machine.

    Raises
    ------
    ModelSetError
        If a GPU is asked for and there is none.
    """
    available = source.device != "cpu" and torch.cuda.is_available()
    if source.device == "cuda" and not available:
        raise ModelSetError("torch finds no CUDA GPU here; use --device cpu, or a CUDA build.")
    return "cuda" if available else "cpu"


def limit_threads(threads: int | None) -> None:
    """Set how many threads torch uses; None leaves its own choice.

    A Dask nanny starts its workers with OMP_NUM_THREADS=1, so that without this a worker would
    silently use one core.
    """
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def memory_bytes(device: str) -> int:
    """Memory in use: allocated on the GPU, or resident in this process."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    return int(psutil.Process(os.getpid()).memory_info().rss)


def clear_cache(device: str) -> bool:
    """Return cached GPU memory to the system; says whether there was a cache to clear."""
    if device == "cuda":
        torch.cuda.empty_cache()
    return device == "cuda"


def device_name(device: str) -> str:
    """The device as a log should call it; a GPU with its UUID."""
    if device != "cuda":
        return device
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name} {properties.uuid}"


def _load_classifier(folder: Path, info: ModelSetInfo) -> Classifier:
    verify(folder, info, [info.classifier.file])
    return load_classifier(folder / info.classifier.file, info.feature_dim, info.classifier.hidden)


def _load_encoders(
    folder: Path, info: ModelSetInfo, source: ModelSource, device: str
) -> tuple[Encoder, Encoder]:
    verify(folder, info)
    placement = Placement(device, source.precision, source.max_tokens)
    return (
        load_encoder(info.nucleotide, folder, placement),
        load_encoder(info.peptide, folder, placement),
    )
