"""Sizes and settings of the small DNABERT-S and ESM-2 that are trained here, with defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from virnuc_dask.config import Section, at_least, one_of
from virnuc_dask.errors import BadSettingError

# What may change when a training goes on: how and where it computes, not what.
ADJUSTABLE = ("precision", "device", "checkpoint_every_steps", "log_every_steps")


@dataclass(frozen=True, slots=True)
class TransformerSizes(Section):
    """The sizes of one transformer; its perceptrons are four times as wide as ``dim``."""

    layers: int = 8
    heads: int = 5
    dim: int = 320

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "dim"):
            at_least(f"{name} of a transformer", getattr(self, name), 1)
        # Rotary positions turn pairs of a head's values.
        if self.dim % (2 * self.heads):
            raise BadSettingError(
                f"dim of a transformer must be an even multiple of its {self.heads} heads, "
                f"not {self.dim}."
            )


@dataclass(frozen=True, slots=True)
class TransformerRecipe(Section):
    """How two transformers are trained by masked modelling, one after the other.

    Every step sees about ``batch_tokens`` tokens, of which ``mask_share`` are to be guessed. The
    learning rate rises for ``warmup_steps`` and then falls along half a cosine to nothing.
    """

    nucleotide: TransformerSizes = field(default_factory=TransformerSizes)
    peptide: TransformerSizes = field(default_factory=TransformerSizes)
    vocabulary: int = 4096  # tokens of the nucleotide tokenizer, special ones included
    tokenizer_nt: int = 5_000_000  # DNA that the tokenizer is learnt from
    steps: int = 10_000  # of each encoder
    batch_tokens: int = 65_536
    learning_rate: float = 5e-4
    warmup_steps: int = 1_000
    weight_decay: float = 0.05
    mask_share: float = 0.15
    precision: str = "auto"  # auto: bf16 on a GPU that has it, else fp32
    device: str = "auto"  # auto: a GPU where there is one
    checkpoint_every_steps: int = 1_000
    log_every_steps: int = 100
    seed: int = 1

    def __post_init__(self) -> None:
        one_of("precision", self.precision, ("auto", "fp32", "bf16"))
        one_of("device", self.device, ("auto", "cpu", "cuda"))
        # Five special tokens, five letters, and one that was learnt.
        at_least("vocabulary", self.vocabulary, 11)
        for name in ("tokenizer_nt", "steps", "checkpoint_every_steps", "log_every_steps"):
            at_least(name, getattr(self, name), 1)
        at_least("batch_tokens", self.batch_tokens, 3)
        for name in ("warmup_steps", "seed"):
            at_least(name, getattr(self, name), 0)
        if not 0 < self.learning_rate < float("inf"):
            raise BadSettingError(f"learning_rate must be above 0, not {self.learning_rate}.")
        if not 0 <= self.weight_decay < float("inf"):
            raise BadSettingError(f"weight_decay must be at least 0, not {self.weight_decay}.")
        if not 0 < self.mask_share < 1:
            raise BadSettingError(f"mask_share must be between 0 and 1, not {self.mask_share}.")
