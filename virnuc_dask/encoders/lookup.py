"""What n-grams and words share: texts in blocks, through tables that are looked up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
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
from virnuc_dask.sequences.chunks import blocks_of

# Larger blocks fall out of the CPU's cache.
BLOCK_LETTERS = 1 << 18


class LookedUp(Encoder):
    """Looks texts up in tables, in fp32 whatever `Placement` says."""

    @abstractmethod
    def __init__(self, tables: Mapping[str, Tensor], device: str = "cpu") -> None:
        """Take the tables; `KeyError` or `ValueError` if they are of another encoder."""

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Read the tables; `ModelSetError` if they are damaged, or not what ``spec`` says."""
        path = folder / spec.file
        try:
            encoder = cls(load_file(path), placement.device)
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
        blocks = [self._embed_block(block) for block in blocks_of(texts, BLOCK_LETTERS)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *blocks])

    @abstractmethod
    def _embed_block(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `embed_tokens`, of texts of about `BLOCK_LETTERS`."""
