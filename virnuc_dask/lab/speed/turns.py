"""Times things side by side: warmed up, in turns, with the device's work awaited."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Work = Callable[[], object]


def take_turns(
    variants: Mapping[str, Work],
    repeats: int,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Seconds of every turn of every variant; a first turn of each warms up and is not counted.

    The order is reversed from one turn to the next, so that a machine that slows down or is shared
    treats all alike.

    Parameters
    ----------
    variants
        Names to what is timed.
    device
        On ``cuda`` a turn lasts until the GPU is done.
    tell
        Told after every turn.
    """
    elapsed_s: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name in list(variants)[:: 1 if turn % 2 else -1]:
            spent_s = seconds(variants[name], device)
            if turn:
                elapsed_s[name].append(spent_s)
            tell(f"{name}: {spent_s:.2f} s ({f'turn {turn}' if turn else 'warming up'})")
    return elapsed_s


def seconds(work: Work, device: str = "cpu") -> float:
    """Seconds that ``work`` takes, its GPU's part included."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Wait until the GPU has done all that it was given; nothing to wait for on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def rates(elapsed_s: Mapping[str, list[float]], units: int) -> dict[str, float]:
    """Units a second of each variant, by the median of its turns."""
    return {name: units / statistics.median(spent) for name, spent in elapsed_s.items()}


def ratio(elapsed_s: Mapping[str, list[float]], name: str, baseline: str) -> float:
    """How many times as fast as ``baseline``: the median of the ratios turn by turn."""
    pairs = zip(elapsed_s[baseline], elapsed_s[name], strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)
