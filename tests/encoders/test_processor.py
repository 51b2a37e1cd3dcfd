import os
import subprocess
import sys

import pytest

from virnuc_dask.encoders import processor
from virnuc_dask.encoders.processor import AVX2, AVX512, PLAIN, Processor, this_processor, weakest

SKYLAKE = "fpu avx2 fma avx512f avx512bw avx512dq avx512vl"
ZEN_3 = "fpu avx avx2 fma"


@pytest.fixture
def cpu_flags(tmp_path, monkeypatch):
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def have(flags: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nmodel name\t: some\nflags\t\t: {flags}\n\n")
        monkeypatch.setattr(processor, "_CPU_INFO", path)

    return have


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (f"{SKYLAKE} avx512_bf16 vaes", Processor(AVX512, multiplies_bf16=True)),
        (f"{SKYLAKE} amx_bf16 amx_tile", Processor(AVX512, multiplies_bf16=True)),
        (SKYLAKE, Processor(AVX512, multiplies_bf16=False)),
        (ZEN_3, Processor(AVX2, multiplies_bf16=False)),
        ("fpu sse4_1", Processor(PLAIN, multiplies_bf16=False)),
    ],
)
def test_a_processor_is_known_by_its_flags(cpu_flags, flags, expected):
    cpu_flags(flags)
    assert this_processor() == expected


@pytest.mark.parametrize(
    ("name", "value"), [("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")]
)
def test_what_holds_torch_back_holds_us_back(cpu_flags, monkeypatch, name, value):
    cpu_flags(f"{SKYLAKE} avx512_bf16")
    monkeypatch.setenv(name, value)
    assert this_processor() == Processor(AVX2, multiplies_bf16=False)


def test_the_weakest_decides():
    new, old = Processor(AVX512, multiplies_bf16=True), Processor(AVX2, multiplies_bf16=False)
    assert weakest([new, old]) == old
    assert weakest([new, Processor(AVX512, multiplies_bf16=False)]).multiplies_bf16 is False
    assert weakest([new, new]) == new


@pytest.mark.parametrize("held_back", [False, True])
def test_torch_says_the_same_of_this_machine(held_back):
    environment = dict(os.environ)
    if held_back:
        environment |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    program = (
        "import torch; from virnuc_dask.encoders.processor import this_processor; "
        "print(torch.backends.cpu.get_cpu_capability().lower(), this_processor().instructions)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    theirs, ours = done.stdout.split()
    assert ours == {"default": PLAIN}.get(theirs, theirs)
