"""What a CPU can do that decides how encoders compute on it, told without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

AVX512, AVX2, PLAIN = "avx512", "avx2", "plain"
INSTRUCTION_SETS = (AVX512, AVX2, PLAIN)  # the strongest first

# As Linux calls them: what torch and oneDNN want, and what multiplies bf16 in hardware.
_AVX512_FLAGS = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_AVX2_FLAGS = {"avx2", "fma"}
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU: its instruction set, and whether it multiplies bf16 in hardware."""

    instructions: str  # one of `INSTRUCTION_SETS`
    multiplies_bf16: bool


def this_processor() -> Processor:
    """The processor of this machine; what cannot be found out counts as not there.

    ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA`` hold torch back, and are followed.
    """
    flags = set(cpu_info("flags").split())
    if flags >= _AVX512_FLAGS and not _is_held_back():
        return Processor(AVX512, bool(flags & _BF16_FLAGS))
    return Processor(AVX2 if flags >= _AVX2_FLAGS else PLAIN, multiplies_bf16=False)


def weakest(processors: Iterable[Processor]) -> Processor:
    """What all ``processors`` can do."""
    found = list(processors)
    return Processor(
        max((each.instructions for each in found), key=INSTRUCTION_SETS.index),
        all(each.multiplies_bf16 for each in found),
    )


def _is_held_back() -> bool:
    capability = os.environ.get("ATEN_CPU_CAPABILITY", "")
    most = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    below = most in ("SSE41", "AVX") or most.startswith("AVX2")
    return capability in ("avx2", "default") or below


def cpu_info(name: str) -> str:
    """What the system says of the first core, such as its ``flags``; empty where nothing."""
    try:
        info = _CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":") for line in info.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")
