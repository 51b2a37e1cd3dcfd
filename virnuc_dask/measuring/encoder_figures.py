"""All that is measured of encoders in one go: the ceiling, rates, precisions, tokens a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from virnuc_dask.encoders.cost import Layer, layer_of
from virnuc_dask.encoders.encoder import Placement
from virnuc_dask.encoders.processor import this_processor
from virnuc_dask.measuring.apart import Tell
from virnuc_dask.measuring.products import gemm_rate
from virnuc_dask.measuring.random_weights import ESM2_SIZES, write_esm2
from virnuc_dask.measuring.recommendation import (
    best_max_tokens,
    best_precision,
    seconds_per_frame,
)
from virnuc_dask.measuring.trials import Subject, Trial, agreement, measure, sweep
from virnuc_dask.modelsets.manifest import find, read_info, verify
from virnuc_dask.modelsets.modelset import limit_threads, resolve_device
from virnuc_dask.modelsets.source import ModelSource

MAX_TOKENS = {
    "cpu": (None, 512, 1024, 2048, 4096, 8192),
    "cuda": (None, 8192, 16384, 32768, 65536, 131072),
}


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """What to measure."""

    source: ModelSource
    chunk_length: int
    esm2: tuple[str, ...] = ()  # sizes with random weights, beside the model set's encoders
    trial_s: float = 3.0  # for each rate


@dataclass(frozen=True, slots=True)
class EncoderFigures:
    """What came out. Rates of matrix products are GFLOP/s, by encoder and precision.

    ``trials`` are by precision, ``swept`` by tokens a batch; ``precision`` and ``max_tokens`` are
    the best for the model set's two encoders together.
    """

    device: str
    threads: int
    gemm_gflops: Mapping[str, Mapping[str, float]]
    cosines: Mapping[tuple[str, str], float]
    trials: Sequence[Trial]
    swept: Sequence[Trial]
    labels: Sequence[str]  # of the model set's own encoders
    precision: str
    max_tokens: int | None

    def best_for(self, label: str) -> Trial:
        """The fastest of an encoder's trials by tokens a batch, or its only one."""
        swept = [trial for trial in self.swept if trial.label == label]
        rates = swept or [trial for trial in self.trials if trial.label == label]
        return max(rates, key=lambda trial: trial.tokens_per_s)

    @property
    def frames_per_s(self) -> float:
        """Frames a second that the model set's encoders do at their best, one after the other."""
        own = [trial for trial in self.trials if trial.label in self.labels]
        return 1 / seconds_per_frame(own, lambda trial: trial.precision)[self.precision]

    def as_json(self) -> dict[str, Any]:
        """All figures, for a file."""
        return {
            "device": self.device,
            "threads": self.threads,
            "gemm_gflops": self.gemm_gflops,
            "encoders": [self._described(trial) for trial in self.trials],
            "max_tokens": [asdict(trial) for trial in self.swept],
        }

    def fraction(self, trial: Trial) -> float | None:
        """A trial's share of the ceiling; None for n-grams."""
        if trial.gflops_per_s is None:
            return None
        return trial.gflops_per_s / self.gemm_gflops[trial.label][trial.precision]

    def _described(self, trial: Trial) -> dict[str, Any]:
        return asdict(trial) | {
            "fraction_of_gemm": self.fraction(trial),
            "smallest_cosine_to_fp32": self.cosines.get((trial.label, trial.precision)),
        }


def precisions(device: str) -> tuple[str, ...]:
    """The precisions that a device has instructions for, without fp8."""
    if device == "cuda":
        return "fp32", "fp16", "bf16"
    return ("fp32", "bf16") if this_processor().multiplies_bf16 else ("fp32",)


def measure_encoders(tell: Tell, plan: EncoderPlan) -> EncoderFigures:
    """Measure the encoders of a model set, and ESM-2 of other sizes, with all threads of the plan.

    Raises
    ------
    ModelSetError
        If the model set is missing or damaged, or its device is not there.
    """
    device = resolve_device(plan.source)
    limit_threads(plan.source.threads)
    with TemporaryDirectory(prefix="virnuc-bench-") as scratch:
        own = _own_encoders(plan)
        subjects = own + [_random_esm2(size, Path(scratch), plan) for size in plan.esm2]
        ceilings = _ceilings(subjects, device, plan, tell)
        trials: list[Trial] = []
        cosines: dict[tuple[str, str], float] = {}
        for subject in subjects:
            for trial in _by_precision(subject, device, plan):
                trials.append(trial)
                tell(_line(trial, ceilings))
            cosines |= _cosines(subject, device)
        precision = _best_precision(own, trials, cosines)
        swept = _sweep_all(own, Placement(device, precision), plan, tell)
        for subject in subjects[len(own) :]:
            placement = Placement(device, _best_precision([subject], trials, cosines))
            swept += _sweep_all([subject], placement, plan, tell)
    labels = [subject.label for subject in own]
    return EncoderFigures(
        device=device,
        threads=torch.get_num_threads(),
        gemm_gflops=ceilings,
        cosines=cosines,
        trials=trials,
        swept=swept,
        labels=labels,
        precision=precision,
        max_tokens=_best_max_tokens(own, swept),
    )


def _own_encoders(plan: EncoderPlan) -> list[Subject]:
    folder = find(plan.source.name)
    info = read_info(folder)
    verify(folder, info)
    return [
        Subject(f"{role} encoder ({spec.architecture})", spec, folder, plan.chunk_length)
        for role, spec in (("nucleotide", info.nucleotide), ("peptide", info.peptide))
    ]


def _random_esm2(size: str, scratch: Path, plan: EncoderPlan) -> Subject:
    folder = scratch / size
    folder.mkdir()
    spec = write_esm2(ESM2_SIZES[size], folder)
    return Subject(f"ESM-2 {size}, random weights", spec, folder, plan.chunk_length)


def _ceilings(
    subjects: Sequence[Subject], device: str, plan: EncoderPlan, tell: Tell
) -> dict[str, dict[str, float]]:
    """GFLOP/s of each encoder's matrix products; of ESM-2 8M's where no encoder has any."""
    layers = {subject.label: layer_of(subject.spec) for subject in subjects}
    found = {label: layer for label, layer in layers.items() if layer is not None}
    if not found:
        dim = ESM2_SIZES["8M"].embed_dim
        shapes = ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim))
        found = {"products of ESM-2 8M": Layer(shapes, dim, ESM2_SIZES["8M"].layers)}
    ceilings: dict[str, dict[str, float]] = {}
    for label, layer in found.items():
        rates = {
            precision: round(gemm_rate(layer, precision, device, plan.trial_s / 2) / 1e9, 1)
            for precision in precisions(device)
        }
        ceilings[label] = rates
        shown = ", ".join(f"{precision} {rate:,.0f}" for precision, rate in rates.items())
        tell(f"matrix products, width {layer.width}: {shown} GFLOP/s")
    return ceilings


def _by_precision(subject: Subject, device: str, plan: EncoderPlan) -> Iterator[Trial]:
    """A trial for each precision; n-grams compute alike in all of them and have one, fp32."""
    for precision in precisions(device) if layer_of(subject.spec) else ("fp32",):
        yield measure(subject, Placement(device, precision), plan.trial_s)


def _cosines(subject: Subject, device: str) -> dict[tuple[str, str], float]:
    """By the encoder's label and precision, how near its embeddings are to those in fp32."""
    if layer_of(subject.spec) is None:
        return {}
    return {
        (subject.label, precision): agreement(subject, Placement(device, precision))
        for precision in precisions(device)
        if precision != "fp32"
    }


def _sweep_all(
    subjects: Sequence[Subject], placement: Placement, plan: EncoderPlan, tell: Tell
) -> list[Trial]:
    """Every transformer at several numbers of tokens a batch; n-grams have no such choice."""
    trials: list[Trial] = []
    choices = [replace(placement, max_tokens=n) for n in MAX_TOKENS[placement.device]]
    for subject in subjects:
        if layer_of(subject.spec) is None:
            continue
        swept = sweep(subject, choices, plan.trial_s / 2)
        trials += swept.values()
        shown = ", ".join(f"{_tokens(t)}: {t.tokens_per_s:,.0f}" for t in swept.values())
        tell(f"{subject.label}, {placement.precision}, tokens/s by tokens a batch: {shown}")
    return trials


def _tokens(trial: Trial) -> str:
    return "automatic" if trial.max_tokens is None else f"{trial.max_tokens:,}"


def _best_precision(
    own: Sequence[Subject], trials: Sequence[Trial], cosines: Mapping[tuple[str, str], float]
) -> str:
    labels = {subject.label for subject in own}
    close = {pair: cosine for pair, cosine in cosines.items() if pair[0] in labels}
    return best_precision([trial for trial in trials if trial.label in labels], close)


def _best_max_tokens(own: Sequence[Subject], swept: Sequence[Trial]) -> int | None:
    labels = {subject.label for subject in own}
    mine = [trial for trial in swept if trial.label in labels]
    return best_max_tokens(mine) if mine else None


def _line(trial: Trial, ceilings: Mapping[str, Mapping[str, float]]) -> str:
    line = f"{trial.label}, {trial.precision}: {trial.tokens_per_s:,.0f} tokens/s"
    if trial.gflops_per_s is None:
        return f"{line} (letters)"
    share = trial.gflops_per_s / ceilings[trial.label][trial.precision]
    return f"{line}, {share:.0%} of the matrix products' rate"
