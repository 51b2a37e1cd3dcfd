"""Tokens a second of an encoder, as a run uses it: by precision, and by tokens a batch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from virnuc_dask.encoders.cost import layer_of
from virnuc_dask.encoders.encoder import Encoder, EncoderSpec, Placement, load_encoder
from virnuc_dask.encoders.transformer import TransformerEncoder
from virnuc_dask.lab.speed.memory import PeakMemory
from virnuc_dask.lab.speed.metagenome import draw_frames
from virnuc_dask.lab.speed.turns import seconds

TURNS = 3
# A turn embeds so many texts at least, so that batches fill, and at most, so that it ends.
_FEWEST, _MOST = 8, 20_000
_COMPARED = 16  # texts on which precisions are compared
DNA, PEPTIDE = "dna", "peptide"
_OF_DNA = {"dnabert_s", "dna_ngrams", "dna_words"}


@dataclass(frozen=True, slots=True)
class Subject:
    """An encoder to measure, and what to feed it."""

    label: str
    spec: EncoderSpec
    folder: Path
    chunk_length: int

    @property
    def kind(self) -> str:
        """Whether it reads DNA or peptides."""
        return DNA if self.spec.architecture in _OF_DNA else PEPTIDE

    def draw_texts(self, count: int, seed: int = 1) -> list[str]:
        """So many frames of random genes, all different, as this encoder reads them."""
        frames = draw_frames(count, self.chunk_length, seed)
        return [frame.dna if self.kind == DNA else frame.peptide for frame in frames]


@dataclass(frozen=True, slots=True)
class Trial:
    """One encoder at one placement."""

    label: str
    kind: str
    precision: str
    max_tokens: int | None
    tokens_per_s: float
    tokens_per_text: float
    gflops_per_s: float | None  # of matrix products; None for n-grams
    load_s: float
    peak_ram_bytes: int
    peak_gpu_bytes: int

    @property
    def texts_per_s(self) -> float:
        """Frames a second, as far as this encoder goes."""
        return self.tokens_per_s / self.tokens_per_text


def measure(subject: Subject, placement: Placement, budget_s: float) -> Trial:
    """Load an encoder and find how fast it embeds: the median of `TURNS` turns.

    ``budget_s`` is for the turns together; one small turn before them warms up and tells how many
    texts they can take.
    """
    with PeakMemory() as memory:
        reset_peak(placement.device)
        loaded: list[Encoder] = []
        load_s = seconds(lambda: loaded.append(_load(subject, placement)), placement.device)
        encoder = loaded.pop()
        texts = _texts_for(subject, encoder, placement, budget_s / TURNS)
        spent = [seconds(lambda: encoder.embed(texts), placement.device) for _ in range(TURNS)]
    tokens = count_tokens(encoder, texts)
    layer = layer_of(subject.spec)
    rate, per_text = tokens / statistics.median(spent), tokens / len(texts)
    return Trial(
        label=subject.label,
        kind=subject.kind,
        precision=placement.precision,
        max_tokens=placement.max_tokens,
        tokens_per_s=rate,
        tokens_per_text=per_text,
        gflops_per_s=None if layer is None else rate * layer.flops_per_token(per_text) / 1e9,
        load_s=load_s,
        peak_ram_bytes=memory.ram_bytes,
        peak_gpu_bytes=peak_gpu_bytes(placement.device),
    )


def sweep(
    subject: Subject, placements: Sequence[Placement], budget_s: float
) -> dict[Placement, Trial]:
    """`measure` at each of ``placements``, until one does not fit the device's memory."""
    trials = {}
    for placement in placements:
        try:
            trials[placement] = measure(subject, placement, budget_s)
        except torch.OutOfMemoryError:
            break
    return trials


def agreement(subject: Subject, placement: Placement) -> float:
    """The smallest cosine between an embedding at ``placement`` and the same one in fp32."""
    texts = subject.draw_texts(_COMPARED, seed=2)
    exact = Placement(placement.device, "fp32", placement.max_tokens)
    return smallest_cosine(
        _load(subject, exact).embed(texts), _load(subject, placement).embed(texts)
    )


def smallest_cosine(ours: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """The smallest cosine between rows of the same place; shapes (texts, dim)."""
    ours, exact = ours.astype(np.float64), exact.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
    return float(((ours * exact).sum(1) / lengths).min())


def count_tokens(encoder: Encoder, texts: Sequence[str]) -> int:
    """Tokens that an encoder sees of ``texts``; letters where it has no tokens."""
    if isinstance(encoder, TransformerEncoder):
        return sum(map(len, encoder.tokenise(texts)))
    return sum(map(len, texts))


def reset_peak(device: str) -> None:
    """Forget the most GPU memory that was ever allocated."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gpu_bytes(device: str) -> int:
    """The most GPU memory that torch has held since `reset_peak`; 0 on a CPU."""
    return torch.cuda.max_memory_reserved() if device == "cuda" else 0


def _load(subject: Subject, placement: Placement) -> Encoder:
    return load_encoder(subject.spec, subject.folder, placement)


def _texts_for(
    subject: Subject, encoder: Encoder, placement: Placement, turn_s: float
) -> list[str]:
    """Texts whose embedding takes about ``turn_s``; embeds some, so that everything is warm."""

    def spent_on(texts: list[str]) -> float:
        return seconds(lambda: encoder.embed(texts), placement.device)

    texts = subject.draw_texts(_FEWEST)
    spent_on(texts)
    while (spent_s := spent_on(texts)) < turn_s / 4 and len(texts) < _MOST:
        texts = subject.draw_texts(min(_MOST, 4 * len(texts)))
    wanted = round(len(texts) * turn_s / spent_s)
    return subject.draw_texts(max(_FEWEST, min(_MOST, wanted)))
