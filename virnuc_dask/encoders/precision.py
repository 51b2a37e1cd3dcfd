"""In which number format an encoder computes, told without torch: the client decides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

AUTO = "auto"
PRECISIONS = ("fp32", "bf16", "fp16", "fp8")
# CPUs have no fast products for these.
FOR_GPUS = ("fp16", "fp8")

# What Linux calls the instructions that multiply bf16 matrices in hardware.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")
# Tables of n-grams are looked up, not multiplied: half precision would save nothing.
_LOOKED_UP = {"dna_ngrams", "peptide_ngrams"}


def fastest_precision(device: str, architectures: Iterable[str]) -> str:
    """The precision that ``auto`` stands for.

    ``fp16`` on a GPU: as fast as ``bf16`` and eight times as exact; ``fp8`` must be asked for. On
    a CPU ``bf16`` where it has instructions for it, else ``fp32``; n-grams compute in ``fp32``
    everywhere.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    architectures
        Of the model set's encoders.
    """
    if are_ngrams(architectures):
        return "fp32"
    if device == "cuda":
        return "fp16"
    return "bf16" if cpu_multiplies_bf16() else "fp32"


def are_ngrams(architectures: Iterable[str]) -> bool:
    """Whether all encoders look n-grams up: then a frame costs microseconds."""
    return _LOOKED_UP.issuperset(architectures)


def cpu_multiplies_bf16() -> bool:
    """Whether this machine's processor multiplies bf16 in hardware; unknown means no."""
    try:
        info = _CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    lines = (line.partition(":") for line in info.splitlines())
    flags = next((words for name, _, words in lines if name.strip() == "flags"), "")
    return not _BF16_FLAGS.isdisjoint(flags.split())
