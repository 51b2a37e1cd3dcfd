"""A loaded model set: load once, embed, score, release."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, field

import psutil
import torch

from virnuc_dask.config import cores
from virnuc_dask.encoders.encoder import Encoder, Placement
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.classifier import Classifier, load_classifier
from virnuc_dask.modelsets.device_lock import DeviceLock
from virnuc_dask.modelsets.environment import prepare_torch
from virnuc_dask.modelsets.manifest import ModelSetInfo, find, read_info, verified
from virnuc_dask.modelsets.memory_sharing import Memory, OnLoad, load_pair
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.sequences.genes import GeneCaller, gene_caller

prepare_torch()


@dataclass
class ModelSet:
    """Two encoders and a classifier in memory. ``encoders`` is None where only scores are made.

    ``caller`` finds genes, with ``threads``; None for a set that reads frames.
    """

    info: ModelSetInfo
    device: str
    classifier: Classifier
    encoders: tuple[Encoder, Encoder] | None = None  # nucleotide, peptide
    device_lock: DeviceLock = field(default_factory=DeviceLock)
    residency: str = "no encoders"  # as a log says it
    caller: GeneCaller | None = None
    threads: int = 1

    @property
    def weight_bytes(self) -> int:
        """Memory that all weights take."""
        own = sum(p.numel() * p.element_size() for p in self.classifier.parameters())
        return own + sum(encoder.weight_bytes for encoder in self.encoders or ())

    def memory_bytes(self) -> int:
        """Memory in use where the model set is; see `memory_bytes`."""
        return memory_bytes(self.device)


def load(source: ModelSource, on_load: OnLoad | None = None) -> ModelSet:
    """Load a model set; every file that is read is compared with its SHA-256 meanwhile.

    ``on_load`` is told of each encoder that is loaded in the other's place, where memory holds one
    only. `ModelSetError` if the set is missing, damaged, not the planned one, or has no device.
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
    names = None if source.encoders else [info.classifier.file]
    with verified(folder, info, names):
        path = folder / info.classifier.file
        classifier = load_classifier(path, info.feature_dim, info.classifier.hidden)
        models = ModelSet(info, device, classifier, threads=source.threads or cores())
        if source.encoders:
            placement = Placement(
                device,
                source.precision,
                source.max_tokens,
                compile=source.compile and device == "cuda",
                instructions=source.instructions,
            )
            memory = Memory(source.residency, free_bytes(source, device))
            specs = info.nucleotide, info.peptide
            pair = load_pair(specs, folder, placement, memory, on_load)
            models.encoders, models.device_lock, models.residency = pair
            models.caller = _caller(info, source.gene_caller)
    return models


def load_modelset(name: str, device: str = "auto", precision: str = "fp32") -> ModelSet:
    """Load a model set by its name or folder, for use from Python."""
    info = read_info(find(name))
    return load(ModelSource.of(name, info, device=device, precision=precision))


def _caller(info: ModelSetInfo, name: str | None) -> GeneCaller | None:
    """What finds the genes of a set that reads them: its own caller, or the one called ``name``."""
    if info.genes is None:
        return None
    own = name in (None, info.genes.caller)
    return gene_caller(name or info.genes.caller, info.genes.models or None if own else None)


def release(models: ModelSet) -> None:
    """Give back the memory of a model set; it cannot be used afterwards."""
    del models.classifier
    models.encoders = None
    gc.collect()
    clear_cache(models.device)


def resolve_device(source: ModelSource) -> str:
    """``cpu`` or ``cuda``; `ModelSetError` if a GPU is asked for and there is none."""
    available = source.device != "cpu" and torch.cuda.is_available()
    if source.device == "cuda" and not available:
        raise ModelSetError("torch finds no CUDA GPU here; use --device cpu, or a CUDA build.")
    return "cuda" if available else "cpu"


def limit_threads(threads: int | None) -> None:
    """Set how many threads torch uses; None leaves its own choice, within a container's share.

    A Dask nanny starts its workers with OMP_NUM_THREADS=1, so that without this a worker would
    silently use one core; torch itself counts the cores of the whole machine.
    """
    wanted = threads or min(torch.get_num_threads(), cores())
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)


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


def free_bytes(source: ModelSource, device: str) -> int | None:
    """Memory that encoders may still take; None where the system swaps or maps what is too much."""
    if device != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return min(free, int(source.gpu_fraction * total) - torch.cuda.memory_allocated())
