"""What every encoder looks like from outside, and how one is made from its specification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from virnuc_dask.checks import checked
from virnuc_dask.encoders.processor import this_processor
from virnuc_dask.errors import ModelSetError

if TYPE_CHECKING:
    import torch

# A number in a stranger's manifest must not take all memory.
LARGEST_SIZE = 1 << 20
Size = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]

# Architecture name in modelset.json → its class. Imported when asked for: a run needs two of them.
ARCHITECTURES = {
    "esm2": "virnuc_dask.encoders.esm2:Esm2",
    "dnabert_s": "virnuc_dask.encoders.dnabert_s:DnabertS",
    "dna_words": "virnuc_dask.encoders.words:DnaWords",
    "peptide_words": "virnuc_dask.encoders.words:PeptideWords",
}

Tokens = Sequence[Any]
"""What an encoder makes of texts before it computes: one item a text, its kind the encoder's."""


@checked
class EncoderSpec:
    """One encoder as ``modelset.json`` describes it.

    ``file`` and ``tokenizer`` are paths relative to the model set's folder; ``config`` holds the
    sizes that the architecture needs, and nothing that the weights do not depend on. ``name`` is
    for people, such as ``ESM-2 650M``, and no part of any checksum.
    """

    architecture: str
    dim: Size
    file: str
    config: Mapping[str, Any] = Field(default_factory=dict)
    tokenizer: str | None = None
    name: str | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.architecture


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how an encoder computes.

    ``device`` is ``cpu`` or ``cuda``, ``precision`` one of `precision.PRECISIONS`; without
    ``max_tokens``, the tokens of a batch follow from device and encoder; ``compile`` fuses what
    lies between the matrix products of full batches. On a CPU ``instructions``, one of
    `processor.INSTRUCTION_SETS`, choose the kernels; None: those of this machine.
    """

    device: str = "cpu"
    precision: str = "fp32"
    max_tokens: int | None = None
    compile: bool = False
    instructions: str | None = None

    @property
    def kernels(self) -> str:
        """The instruction set whose kernels are used."""
        return self.instructions or this_processor().instructions

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of the weights, and of hidden states."""
        import torch  # not by the client, which only reads specifications

        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        # What is not multiplied in 8 bits stays in the format that such a product ends in.
        return dtypes.get(self.precision, torch.bfloat16)


class Encoder(ABC):
    """Turns texts into one mean-pooled vector each."""

    dim: int
    weight_bytes: int  # memory that the weights take

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """``texts`` as `embed_tokens` takes them: the work that does not touch the device."""
        return texts

    @abstractmethod
    def embed_tokens(self, tokens: Tokens) -> NDArray[np.float32]:
        """Embeddings, shape (len(tokens), dim), float32, order kept: the work of the device."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of ``texts``, shape (len(texts), dim), float32, order kept."""
        return self.embed_tokens(self.tokenise(texts))


def load_encoder(spec: EncoderSpec, folder: Path, placement: Placement) -> Encoder:
    """The encoder of ``spec``; `ModelSetError` if it is unknown or the weights do not fit it."""
    if spec.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelSetError(
            f"{folder}: encoder architecture {spec.architecture!r} is unknown (known: {known}). "
            "Was the model set made for a newer version?"
        )
    encoder: Encoder = resolve_name(ARCHITECTURES[spec.architecture]).load(spec, folder, placement)
    return encoder
