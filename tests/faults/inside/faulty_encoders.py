"""The DNA encoder of words, with faults that the environment asks for.

``VIRNUC_FAULTS`` holds JSON: ``delay_s`` (as long as the file ``delay_while`` exists) and
``load_s`` to be slow, ``harm`` with what a frame with `MARKER` does, or every frame if
``everywhere``, ``most_tokens`` for a device that holds no more.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from virnuc_dask.encoders.batching import embed_in_batches
from virnuc_dask.encoders.words import DnaWords

MARKER = "ATGAAATGGTGGATGAAATGGTGGATGCCC"

MAX_TOKENS = 4096  # a batch


def die() -> None:
    os._exit(9)


def run_out_of_memory() -> None:
    raise MemoryError("as if memory had run out")


def fail() -> None:
    raise RuntimeError("as if a kernel had failed")


def lack() -> None:
    raise NotImplementedError("as if a kernel were missing")


HARMS = {"die": die, "memory": run_out_of_memory, "runtime": fail, "bug": lack}


class FaultyDna(DnaWords):
    """As good as its parent until something happens."""

    @classmethod
    def load(cls, spec, folder, placement):
        time.sleep(_faults().get("load_s", 0))
        return super().load(spec, folder, placement)

    def embed_tokens(self, texts: Sequence[str]) -> np.ndarray:
        faults = _faults()
        time.sleep(_delay_s(faults))
        harm = faults.get("harm")
        if harm and (faults.get("everywhere") or any(MARKER in text for text in texts)):
            HARMS.get(harm, lambda: None)()
        embeddings = self._in_batches(texts, faults.get("most_tokens"))
        if harm == "nan":
            marked = [MARKER in text or faults.get("everywhere", False) for text in texts]
            embeddings[marked] = np.nan
        return embeddings

    def _in_batches(self, texts: Sequence[str], most: int | None) -> np.ndarray:
        """In batches as the transformers form them, if the device is said to be small."""
        if most is None:
            return super().embed_tokens(texts)
        codes = [np.frombuffer(text.encode(), np.uint8).astype(np.int64) for text in texts]

        def forward(batch: torch.Tensor) -> torch.Tensor:
            if batch.numel() > most:
                raise torch.OutOfMemoryError(f"{batch.numel()} tokens, {most} fit")
            rows = batch.numpy().astype(np.uint8)
            embedded = super(FaultyDna, self).embed_tokens([bytes(row).decode() for row in rows])
            return torch.from_numpy(embedded)

        return embed_in_batches(codes, forward, self.dim, MAX_TOKENS)


def _delay_s(faults: dict) -> float:
    if "delay_while" in faults and not Path(faults["delay_while"]).exists():
        return 0
    return faults.get("delay_s", 0)


def _faults() -> dict:
    return json.loads(os.environ.get("VIRNUC_FAULTS", "{}"))
