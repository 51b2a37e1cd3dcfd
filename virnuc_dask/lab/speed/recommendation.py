"""From figures to settings: what to write into a config on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from virnuc_dask.config import NAMESPACE

# The smallest cosine to fp32 that a precision may have.
ACCURACY = {"fp32": 1.0, "fp16": 0.9999, "bf16": 0.999}
# A gain smaller than this is noise: the simpler setting is kept.
_WORTH = 0.03

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Trial:
    """One encoder at one placement."""

    label: str
    kind: str
    precision: str
    max_tokens: int | None
    tokens_per_s: float
    tokens_per_text: float
    gflops_per_s: float | None  # of matrix products; None for words
    load_s: float
    peak_ram_bytes: int
    peak_gpu_bytes: int
    fraction_of_gemm: float | None = None  # the share of the ceiling
    smallest_cosine_to_fp32: float | None = None

    @property
    def texts_per_s(self) -> float:
        """Frames a second, as far as this encoder goes."""
        return self.tokens_per_s / self.tokens_per_text

    def line(self) -> str:
        """Its rate, for a terminal."""
        rate = f"{self.label}, {self.precision}: {self.tokens_per_s:,.0f} tokens/s"
        if self.fraction_of_gemm is None:
            return f"{rate} (letters)"
        return f"{rate}, {self.fraction_of_gemm:.0%} of the matrix products' rate"


def best_precision(trials: Sequence[Trial]) -> str:
    """The precision at which all encoders together take least time a frame.

    fp32 stays unless another is worth it; one whose embeddings are too far from fp32's is none.
    """
    spent = seconds_per_frame(trials, lambda trial: trial.precision)
    for trial in trials:
        near = trial.smallest_cosine_to_fp32
        if near is not None and near < ACCURACY[trial.precision]:
            spent.pop(trial.precision, None)
    fastest = min(spent, key=lambda precision: spent[precision])
    worth = "fp32" not in spent or spent[fastest] < (1 - _WORTH) * spent["fp32"]
    return fastest if worth else "fp32"


def best_max_tokens(trials: Sequence[Trial]) -> int | None:
    """Tokens a batch at which all encoders together take least time a frame; None is automatic.

    The smallest of those that are as good, for it takes least memory; automatic where it is one.
    """
    spent = seconds_per_frame(trials, lambda trial: trial.max_tokens)
    enough = min(spent.values()) / (1 - _WORTH)
    good = [tokens for tokens, seconds in spent.items() if seconds <= enough]
    return None if None in good else min(tokens for tokens in good if tokens is not None)


def best_split(runs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The run with most frames a second; the one with fewest workers of those as good."""
    fastest = max(run["frames_per_s"] for run in runs)
    good = [run for run in runs if run["frames_per_s"] >= (1 - _WORTH) * fastest]
    return min(good, key=lambda run: run["workers"])


def as_yaml(precision: str, max_tokens: int | None, cluster: Mapping[str, Any]) -> str:
    """Settings as the text of a ``--config`` file; what is None is left out."""
    settings = {
        "precision": precision,
        "max_tokens": max_tokens,
        "cluster": {name: value for name, value in cluster.items() if value is not None},
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return yaml.safe_dump({NAMESPACE: given}, sort_keys=False)


def seconds_per_frame(
    trials: Sequence[Trial], choice: Callable[[Trial], Choice]
) -> dict[Choice, float]:
    """By a choice, the seconds that all encoders take for one frame, one after the other.

    An encoder that has no choice (words have neither precision nor batches) takes the same in
    all; a choice that an encoder could not make, for want of memory, is left out.
    """
    by_label: dict[str, dict[Choice, float]] = {}
    for trial in trials:
        by_label.setdefault(trial.label, {})[choice(trial)] = 1 / trial.texts_per_s
    most = max(by_label.values(), key=len)
    common = [made for made in most if all(len(s) == 1 or made in s for s in by_label.values())]
    return {
        made: sum(s[made] if made in s else next(iter(s.values())) for s in by_label.values())
        for made in common
    }
