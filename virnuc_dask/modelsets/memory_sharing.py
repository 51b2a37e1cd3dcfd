"""The two encoders of a model set: both in memory, or where that is too small one at a time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from virnuc_dask.encoders.encoder import Encoder, EncoderSpec, Placement, load_encoder
from virnuc_dask.modelsets.device_lock import DeviceLock
from virnuc_dask.modelsets.sizes import weight_bytes

Specs = tuple[EncoderSpec, EncoderSpec]
OnLoad = Callable[[str, float], None]
"""Told the architecture of an encoder that took the other's place, and the seconds it took."""

# Tokens of a batch that is worth a GPU, and values of the embedding's width that live at once for
# each of them: input and output of a layer, queries, keys and values, the perceptron's inside.
_WORKING_TOKENS, _WORKING_VALUES = 8192, 16


@dataclass(frozen=True, slots=True)
class Memory:
    """How memory may be used: ``residency`` as the setting says, and what is free.

    ``free_bytes`` is None where there is no limit to keep: a CPU maps weights from their file.
    """

    residency: str = "auto"  # auto, together, in_turn
    free_bytes: int | None = None

    def holds(self, needed_bytes: int) -> bool:
        """Whether both encoders stay in memory, if they need so much."""
        if self.residency != "auto":
            return self.residency == "together"
        return self.free_bytes is None or needed_bytes <= self.free_bytes


class EncoderPair(NamedTuple):
    """The nucleotide and the peptide encoder, who may compute when, and how they are kept."""

    encoders: tuple[Encoder, Encoder]
    device_lock: DeviceLock
    residency: str


def load_pair(
    specs: Specs, folder: Path, placement: Placement, memory: Memory, on_load: OnLoad | None = None
) -> EncoderPair:
    """Load both encoders if ``memory`` holds them with room to compute, else each in its turn.

    Raises `ModelSetError` if a file is missing or damaged, or not what its specification says.
    """
    sizes = [weight_bytes(folder / spec.file, placement.precision) for spec in specs]
    widest = max(spec.dim for spec in specs)
    batch = widest * _WORKING_TOKENS * _WORKING_VALUES * int(placement.dtype.itemsize)
    needed = sum(sizes) + batch
    if memory.holds(needed):
        nucleotide, peptide = (load_encoder(spec, folder, placement) for spec in specs)
        return EncoderPair((nucleotide, peptide), DeviceLock(), "both encoders in memory")
    place = SharedPlace(folder, placement, on_load)
    nucleotide, peptide = (
        SwappedEncoder(spec, place, n) for spec, n in zip(specs, sizes, strict=True)
    )
    why = "as set"
    if memory.residency == "auto" and memory.free_bytes is not None:
        why = f"both need {needed / 1e9:,.1f} GB and {memory.free_bytes / 1e9:,.1f} GB are free"
    text = f"one encoder in memory at a time ({why})"
    return EncoderPair((nucleotide, peptide), DeviceLock(grouped=True), text)


class SharedPlace:
    """The place in a device's memory that two encoders share."""

    def __init__(self, folder: Path, placement: Placement, on_load: OnLoad | None) -> None:
        self._folder = folder
        self._placement = placement
        self._on_load = on_load
        self._loaded: tuple[EncoderSpec, Encoder] | None = None

    def encoder(self, spec: EncoderSpec) -> Encoder:
        """The encoder of ``spec``, loaded in the other's place if it is not there."""
        if self._loaded is None or self._loaded[0] != spec:
            self._loaded = None
            gc.collect()
            if self._placement.device == "cuda":
                torch.cuda.empty_cache()
            start = time.perf_counter()
            self._loaded = spec, load_encoder(spec, self._folder, self._placement)
            if self._on_load is not None:
                self._on_load(spec.architecture, time.perf_counter() - start)
        return self._loaded[1]


class SwappedEncoder(Encoder):
    """An encoder that is in memory from its first use until the other one needs the place.

    Its texts are tokenised where they are embedded: the tokeniser comes and goes with it.
    """

    def __init__(self, spec: EncoderSpec, place: SharedPlace, weight_bytes: int) -> None:
        self.dim = spec.dim
        self.weight_bytes = weight_bytes
        self._spec = spec
        self._place = place

    def embed_tokens(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of ``tokens``, which are texts, order kept."""
        return self._place.encoder(self._spec).embed(tokens)
