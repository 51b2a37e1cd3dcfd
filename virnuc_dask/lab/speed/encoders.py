"""All that is measured of encoders: the ceiling, rates by precision and by tokens a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from virnuc_dask.encoders.cost import layer_of
from virnuc_dask.encoders.encoder import Encoder, EncoderSpec, Placement, load_encoder
from virnuc_dask.encoders.processor import this_processor
from virnuc_dask.encoders.transformer import TransformerEncoder
from virnuc_dask.lab.speed.machine import PeakMemory
from virnuc_dask.lab.speed.metagenome import draw_frames
from virnuc_dask.lab.speed.process import Tell
from virnuc_dask.lab.speed.products import gemm_rate, timed
from virnuc_dask.lab.speed.random_weights import ESM2_SIZES, write_esm2
from virnuc_dask.lab.speed.recommendation import (
    Trial,
    best_max_tokens,
    best_precision,
    seconds_per_frame,
)
from virnuc_dask.modelsets.manifest import find, read_info, verify
from virnuc_dask.modelsets.modelset import limit_threads, resolve_device
from virnuc_dask.modelsets.source import ModelSource

MAX_TOKENS = {
    "cpu": (None, 512, 1024, 2048, 4096, 8192),
    "cuda": (None, 8192, 16384, 32768, 65536, 131072),
}
# So many texts are embedded at once at least, so that batches fill, and at most, so that it ends.
_FEWEST, _MOST = 8, 20_000
_COMPARED = 16  # texts on which precisions are compared
DNA, PEPTIDE = "dna", "peptide"
# GFLOP/s of matrix products and nothing else, by encoder and precision.
Ceilings = Mapping[str, Mapping[str, float]]
_OF_DNA = {"dnabert_s", "dna_words"}


@dataclass(frozen=True, slots=True)
class Subject:
    """An encoder to measure, and what to feed it."""

    label: str
    spec: EncoderSpec
    folder: Path
    chunk_length: int

    @property
    def kind(self) -> str:
        """What it reads: `DNA` or `PEPTIDE`."""
        return DNA if self.spec.architecture in _OF_DNA else PEPTIDE

    def draw_texts(self, count: int, seed: int = 1) -> list[str]:
        """So many frames of random genes, all different, as this encoder reads them."""
        frames = draw_frames(count, self.chunk_length, seed)
        return [frame.dna if self.kind == DNA else frame.peptide for frame in frames]

    def load(self, placement: Placement) -> Encoder:
        """The encoder, there."""
        return load_encoder(self.spec, self.folder, placement)


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """What to measure."""

    source: ModelSource
    chunk_length: int
    esm2: tuple[str, ...] = ()  # sizes with random weights, beside the model set's encoders
    trial_s: float = 3.0  # for each rate


@dataclass(frozen=True, slots=True)
class EncoderFigures:
    """What came out; the best is for the model set's two encoders together."""

    device: str
    threads: int
    gemm_gflops: Ceilings
    trials: Sequence[Trial]  # by precision
    swept: Sequence[Trial]  # by tokens a batch
    others: Sequence[Trial]  # the best of each encoder that is not the model set's
    precision: str  # the best
    max_tokens: int | None  # the best
    frames_per_s: float  # at their best, one encoder after the other

    def as_json(self) -> dict[str, Any]:
        """All figures, for a file."""
        return {
            "device": self.device,
            "threads": self.threads,
            "gemm_gflops": self.gemm_gflops,
            "encoders": [asdict(trial) for trial in self.trials],
            "max_tokens": [asdict(trial) for trial in self.swept],
        }


def precisions(device: str) -> tuple[str, ...]:
    """The precisions that a device has instructions for, without fp8."""
    if device == "cuda":
        return "fp32", "fp16", "bf16"
    return ("fp32", "bf16") if this_processor().multiplies_bf16 else ("fp32",)


def measure_encoders(tell: Tell, plan: EncoderPlan) -> EncoderFigures:
    """Measure the encoders of a model set, and ESM-2 of other sizes, with all threads of the plan.

    `ModelSetError` if the model set is missing or damaged, or its device is not there.
    """
    device = resolve_device(plan.source)
    limit_threads(plan.source.threads)
    with TemporaryDirectory(prefix="virnuc-bench-") as scratch:
        own = _own_encoders(plan)
        others = [_random_esm2(size, Path(scratch), plan) for size in plan.esm2]
        ceilings = _ceilings([*own, *others], device, plan, tell)
        precision, trials, swept = _tried(own, device, ceilings, plan, tell)
        spent = seconds_per_frame(trials, lambda trial: trial.precision)[precision]
        max_tokens, best = best_max_tokens(swept) if swept else None, []
        for subject in others:
            _, of_one, swept_of_one = _tried([subject], device, ceilings, plan, tell)
            trials, swept = trials + of_one, swept + swept_of_one
            best.append(max(swept_of_one, key=lambda trial: trial.tokens_per_s))
    about = (device, torch.get_num_threads(), ceilings)
    return EncoderFigures(*about, trials, swept, best, precision, max_tokens, 1 / spent)


def _tried(
    subjects: Sequence[Subject], device: str, ceilings: Ceilings, plan: EncoderPlan, tell: Tell
) -> tuple[str, list[Trial], list[Trial]]:
    """The best precision of some encoders together; trials by precision, by tokens a batch."""
    trials = [
        trial
        for subject in subjects
        for trial in _by_precision(subject, device, ceilings.get(subject.label, {}), plan, tell)
    ]
    best = Placement(device, best_precision(trials))
    swept = [trial for subject in subjects for trial in _sweep(subject, best, plan, tell)]
    return best.precision, trials, swept


def measure(subject: Subject, placement: Placement, budget_s: float) -> Trial:
    """Load an encoder and find how fast it embeds, in about ``budget_s`` seconds once warm."""
    with PeakMemory() as memory:
        if placement.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        encoder = subject.load(placement)
        load_s = time.perf_counter() - start
        texts = subject.draw_texts(_FEWEST)
        while True:
            spent = timed(lambda of=texts: encoder.embed(of), 0)  # type: ignore[misc]
            if spent.median >= budget_s / 8 or len(texts) == _MOST:
                break
            texts = subject.draw_texts(min(_MOST, 4 * len(texts)))
        spent = timed(lambda: encoder.embed(texts), budget_s)
    tokens = count_tokens(encoder, texts)
    layer = layer_of(subject.spec)
    rate, per_text = tokens / spent.median, tokens / len(texts)
    on_gpu = placement.device == "cuda"
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
        peak_gpu_bytes=torch.cuda.max_memory_reserved() if on_gpu else 0,
    )


def agreement(subject: Subject, placement: Placement) -> float:
    """The smallest cosine between an embedding at ``placement`` and the same one in fp32."""
    texts = subject.draw_texts(_COMPARED, seed=2)
    exact = subject.load(replace(placement, precision="fp32")).embed(texts)
    return smallest_cosine(subject.load(placement).embed(texts), exact)


def smallest_cosine(ours: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """The smallest cosine between rows of the same place; shapes (texts, dim)."""
    ours, exact = ours.astype(np.float64), exact.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(exact, axis=1)
    return float(((ours * exact).sum(1) / lengths).min())


def count_tokens(encoder: Encoder, texts: Sequence[str]) -> int:
    """Tokens that an encoder sees of ``texts``; letters where it has no tokens."""
    seen = encoder.tokenise(texts) if isinstance(encoder, TransformerEncoder) else texts
    return sum(map(len, seen))


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


def _ceilings(subjects: Sequence[Subject], device: str, plan: EncoderPlan, tell: Tell) -> Ceilings:
    """Of each encoder that has matrix products; of ESM-2 8M where none has any."""
    layers = {subject.label: layer_of(subject.spec) for subject in subjects}
    if not any(layers.values()):
        sizes = ESM2_SIZES["8M"]
        spec = EncoderSpec("esm2", sizes.embed_dim, "none.safetensors", asdict(sizes))
        layers = {"products of ESM-2 8M": layer_of(spec)}
    ceilings: dict[str, dict[str, float]] = {}
    for label, layer in layers.items():
        if layer is not None:
            rates = {
                precision: round(gemm_rate(layer, precision, device, plan.trial_s / 2) / 1e9, 1)
                for precision in precisions(device)
            }
            ceilings[label] = rates
            shown = ", ".join(f"{precision} {rate:,.0f}" for precision, rate in rates.items())
            tell(f"matrix products, width {layer.width}: {shown} GFLOP/s")
    return ceilings


def _by_precision(
    subject: Subject, device: str, ceiling: Mapping[str, float], plan: EncoderPlan, tell: Tell
) -> Iterator[Trial]:
    """A trial for each precision; words compute alike in all of them and have one, fp32."""
    for precision in precisions(device) if ceiling else ("fp32",):
        placement = Placement(device, precision)
        trial = measure(subject, placement, plan.trial_s)
        if trial.gflops_per_s is not None:
            near = None if precision == "fp32" else agreement(subject, placement)
            share = trial.gflops_per_s / ceiling[precision]
            trial = replace(trial, fraction_of_gemm=share, smallest_cosine_to_fp32=near)
        tell(trial.line())
        yield trial


def _sweep(subject: Subject, placement: Placement, plan: EncoderPlan, tell: Tell) -> list[Trial]:
    """A transformer at several numbers of tokens a batch, until one does not fit into memory.

    N-grams have no such choice.
    """
    trials: list[Trial] = []
    for tokens in MAX_TOKENS[placement.device] if layer_of(subject.spec) else ():
        try:
            tried = replace(placement, max_tokens=tokens)
            trials.append(measure(subject, tried, plan.trial_s / 2))
        except torch.OutOfMemoryError:
            break
    if trials:
        shown = ", ".join(f"{t.max_tokens or 'automatic'}: {t.tokens_per_s:,.0f}" for t in trials)
        tell(f"{subject.label}, {placement.precision}, tokens/s by tokens a batch: {shown}")
    return trials
