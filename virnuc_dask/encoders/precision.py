"""In which number format an encoder computes, told without torch: the client decides."""

from __future__ import annotations

from collections.abc import Iterable

from virnuc_dask.encoders.processor import Processor

AUTO = "auto"
PRECISIONS = ("fp32", "bf16", "fp16", "fp8")
# CPUs have no fast products for these.
FOR_GPUS = ("fp16", "fp8")

# Tables of words are looked up, not multiplied: half precision would save nothing.
_MULTIPLIED = {"dnabert_s", "esm2"}


def fastest_precision(device: str, processor: Processor, architectures: Iterable[str]) -> str:
    """The precision that ``auto`` means for encoders of these architectures.

    ``fp16`` on a GPU (``cuda``): as fast as ``bf16`` and eight times as exact; ``fp8`` must be
    asked for. On a CPU ``bf16`` where the processor has instructions for it, else ``fp32``; words
    are looked up in ``fp32`` everywhere.
    """
    if are_looked_up(architectures):
        return "fp32"
    if device == "cuda":
        return "fp16"
    return "bf16" if processor.multiplies_bf16 else "fp32"


def are_looked_up(architectures: Iterable[str]) -> bool:
    """Whether all encoders look words up: then a frame costs microseconds."""
    return _MULTIPLIED.isdisjoint(architectures)
