"""What n-grams and words share: texts in blocks, through tables that are looked up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from virnuc_dask.encoders.encoder import Encoder, EncoderSpec, Placement
from virnuc_dask.errors import ModelSetError

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
# One block's memory is about 60 bytes a letter; larger blocks fall out of the CPU's cache.
BLOCK_LETTERS = 1 << 18


class LookedUp(Encoder):
    """Looks texts up in tables, in fp32 whatever `Placement` says.

    A lookup costs its memory traffic whatever the precision; `BLOCK_LETTERS` bound the memory.
    """

    @classmethod
    @abstractmethod
    def of(cls, tables: Mapping[str, Tensor], spec: EncoderSpec, placement: Placement) -> Self:
        """The encoder with these tables; `KeyError` or `ValueError` if they are others."""

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read the tables; `ModelSetError` if they are damaged, or not what ``spec`` says."""
        path = folder / spec.file
        try:
            encoder = cls.of(load_file(path), spec, placement)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ModelSetError(
                f"{path}: not readable as tables of {spec.architecture} ({error}). "
                "Import or download the model set again."
            ) from error
        if encoder.dim != spec.dim:
            raise ModelSetError(f"{path}: embeds in {encoder.dim} values, not in {spec.dim}.")
        return encoder

    @torch.inference_mode()
    def embed_tokens(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of ``texts``, shape (len(texts), dim), float32, order kept."""
        embeddings = np.zeros((len(texts), self.dim), np.float32)
        for start, stop in _blocks(texts):
            embeddings[start:stop] = self._embed_block(texts[start:stop])
        return embeddings

    @abstractmethod
    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed_tokens`, of texts of about `BLOCK_LETTERS`."""


def _blocks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Ranges [start, stop) of texts that hold about `BLOCK_LETTERS` letters each."""
    letters = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    block = letters // BLOCK_LETTERS
    bounds = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(texts)]
    return ((start, stop) for start, stop in pairwise(bounds) if stop > start)
