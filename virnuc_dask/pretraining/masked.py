"""Masked modelling: a transformer learns to name the tokens that were hidden from it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, linear

from virnuc_dask.encoders.dnabert_s import DnabertSModule
from virnuc_dask.encoders.esm2 import Esm2Module
from virnuc_dask.errors import BadSettingError
from virnuc_dask.pretraining.checkpoint import Progress, read_checkpoint, write_checkpoint
from virnuc_dask.pretraining.masking import MaskedBatch, MaskedTexts, rounds_ahead
from virnuc_dask.pretraining.transformer_recipe import TransformerRecipe

_BETAS = (0.9, 0.98)
_MOST_GRADIENT = 1.0  # norm over all parameters


@dataclass(frozen=True, slots=True)
class MaskedFigures:
    """What a training came to. Loss in nats a token, accuracy a share of the hidden tokens."""

    steps: int
    tokens: int
    validation_loss: float | None
    validation_accuracy: float | None


class MaskedNetwork(nn.Module):
    """An encoder's transformer, and a head that names hidden tokens with the same embeddings.

    The transformer is the very module that a run computes with, so its weights need no conversion.
    """

    def __init__(self, encoder: Esm2Module | DnabertSModule) -> None:
        super().__init__()
        vocabulary, dim = encoder.embedding.weight.shape
        self.encoder = encoder
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.empty(vocabulary))

    def forward(self, shown: Tensor, positions: Tensor) -> Tensor:
        """Logits of the tokens at ``positions``, shape (positions, vocabulary)."""
        hidden = self.encoder(shown).flatten(0, 1)[positions]
        guess = self.norm(gelu(self.dense(hidden)))
        return linear(guess, self.encoder.embedding.weight, self.bias)


def initialise(network: MaskedNetwork, seed: int) -> None:
    """Matrices random, scales one, everything else zero; a function of ``seed`` alone."""
    generator = torch.Generator().manual_seed(seed)
    # BERT's 0.02 is for 768 values; sums over fewer need larger weights to come out as large.
    spread = 0.02 * math.sqrt(768 / network.dense.in_features)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, spread, generator=generator)
            else:
                weight.fill_(float(name.endswith("norm.weight")))


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where a training computes, and whether its matrix products are in bf16."""

    device: str
    bf16: bool

    @classmethod
    def of(cls, recipe: TransformerRecipe) -> Hardware:
        """What ``recipe`` asks for on this machine; `BadSettingError` if it is not here."""
        has_gpu = torch.cuda.is_available()
        if recipe.device == "cuda" and not has_gpu:
            raise BadSettingError("device is cuda, but torch finds no GPU here; use cpu or auto.")
        on_gpu = has_gpu and recipe.device != "cpu"
        if recipe.precision == "auto":
            return cls("cuda" if on_gpu else "cpu", on_gpu and torch.cuda.is_bf16_supported())
        return cls("cuda" if on_gpu else "cpu", recipe.precision == "bf16")

    def autocast(self) -> torch.autocast:
        """A context in which matrix products are in bf16, if they are to be."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


def learning_rate(recipe: TransformerRecipe, step: int) -> float:
    """The learning rate of step ``step``, counted from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    share = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return recipe.learning_rate * (1 + math.cos(math.pi * share)) / 2


@dataclass(slots=True)
class _Meter:
    """What happened since the last line of the log."""

    losses: list[Tensor] = field(default_factory=list)
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        # Read first: on a GPU this waits for the steps.
        loss = torch.stack(self.losses).mean().item()
        per_second = self.tokens / max(time.monotonic() - self.started, 1e-9)
        return f"loss {loss:.4f}, {per_second:,.0f} tokens/s"


class MaskedTraining:
    """Trains one network, with checkpoints; started again it goes on at the last one.

    On one machine's CPU, with one number of threads, the weights depend on recipe and texts alone,
    whether or not the training was interrupted. On a GPU sums are not always formed in one order.
    """

    def __init__(
        self,
        network: MaskedNetwork,
        texts: MaskedTexts,
        recipe: TransformerRecipe,
        checkpoint: Path,
        log: logging.Logger,
    ) -> None:
        self.hardware = Hardware.of(recipe)
        self.network = network.to(self.hardware.device)
        self.texts = texts
        self.recipe = recipe
        self.checkpoint = checkpoint
        self.name = checkpoint.stem
        self.log = log
        self.optimizer = self._optimizer()
        self.progress = Progress()

    def run(self) -> MaskedFigures:
        """Train up to the recipe's last step.

        Raises
        ------
        ModelSetError
            If the checkpoint is damaged or of another network.
        BadSettingError
            If the loss is no number any more.
        """
        self.progress = read_checkpoint(self.checkpoint, self.network, self.optimizer)
        if self.progress.step:
            self.log.info("%s: goes on after step %s", self.name, f"{self.progress.step:,}")
        figures = None
        meter = _Meter()
        with closing(self._batches()) as batches:
            for batch in batches:
                meter.losses.append(self._step(batch))
                meter.tokens += batch.shown.size
                is_check = self._is_due(self.recipe.checkpoint_every_steps)
                if not is_check and not self._is_due(self.recipe.log_every_steps):
                    continue
                self._say(meter.line())
                if is_check:
                    figures = self._check()
                meter = _Meter()
        return figures or self._figures()

    def _batches(self) -> Generator[MaskedBatch]:
        """The batches still to come; `progress` is that after the one which is yielded."""
        if self.progress.step >= self.recipe.steps:
            return
        with closing(rounds_ahead(self.texts.round, self.progress.round)) as rounds:
            for number, batches in rounds:
                for index in range(self.progress.batch, len(batches)):
                    self.progress = Progress(
                        step=self.progress.step + 1,
                        tokens=self.progress.tokens + batches[index].shown.size,
                        round=number,
                        batch=index + 1,
                    )
                    yield batches[index]
                    if self.progress.step >= self.recipe.steps:
                        return
                self.progress = replace(self.progress, batch=0)

    def _step(self, batch: MaskedBatch) -> Tensor:
        rate = learning_rate(self.recipe, self.progress.step - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = cross_entropy(*self._guesses(batch))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _MOST_GRADIENT)
        self.optimizer.step()
        return loss.detach()

    def _guesses(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Logits in fp32 and targets of the hidden tokens."""
        shown, positions, targets = (
            torch.from_numpy(part).to(self.hardware.device, non_blocking=True)
            for part in (batch.shown, batch.positions, batch.targets)
        )
        with self.hardware.autocast():
            return self.network(shown, positions).float(), targets

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.steps

    def _check(self) -> MaskedFigures:
        """Measure on the validation texts, then write the checkpoint."""
        figures = self._figures()
        if figures.validation_loss is not None:
            self._say(
                f"validation loss {figures.validation_loss:.4f}, "
                f"accuracy {figures.validation_accuracy:.4f}"
            )
        weights_are_numbers = all(bool(w.isfinite().all()) for w in self.network.parameters())
        if not weights_are_numbers or not math.isfinite(figures.validation_loss or 0.0):
            raise BadSettingError(
                f"{self.name}: the loss is no number any more at step {self.progress.step}. Lower "
                "learning_rate or raise warmup_steps, and train in a new folder."
            )
        write_checkpoint(self.checkpoint, self.network, self.optimizer, self.progress)
        return figures

    # Not inference_mode: the encoders' tables of positions, made here, serve training, too.
    @torch.no_grad()
    def _figures(self) -> MaskedFigures:
        loss, right, count = 0.0, 0, 0
        for batch in self.texts.of_validation():
            logits, targets = self._guesses(batch)
            loss += cross_entropy(logits, targets, reduction="sum").item()
            right += int((logits.argmax(1) == targets).sum())
            count += len(targets)
        measured = (loss / count, right / count) if count else (None, None)
        return MaskedFigures(self.progress.step, self.progress.tokens, *measured)

    def _optimizer(self) -> torch.optim.AdamW:
        """Weight decay for matrices; none for scales, shifts and the token type."""
        matrices = [weight for weight in self.network.parameters() if weight.ndim > 1]
        others = [weight for weight in self.network.parameters() if weight.ndim < 2]
        return torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": self.recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.recipe.learning_rate,
            betas=_BETAS,
            fused=self.hardware.device == "cuda",
        )

    def _say(self, text: str) -> None:
        step, steps = f"{self.progress.step:,}", f"{self.recipe.steps:,}"
        self.log.info("%s: step %s of %s, %s", self.name, step, steps, text)


def as_dict(figures: MaskedFigures) -> dict[str, float | int | None]:
    """The figures as JSON wants them, rounded."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(figures).items()}
