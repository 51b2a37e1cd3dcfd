import pytest

from virnuc_dask.encoders import precision
from virnuc_dask.encoders.precision import cpu_multiplies_bf16, fastest_precision

TRANSFORMERS = ("dnabert_s", "esm2")
NGRAMS = ("dna_ngrams", "peptide_ngrams")


@pytest.fixture
def cpu_flags(tmp_path, monkeypatch):
    def have(flags: str) -> None:
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nmodel name\t: some\nflags\t\t: {flags}\n\n")
        monkeypatch.setattr(precision, "_CPU_INFO", path)

    return have


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16 vaes", "bf16"),
        ("fpu amx_bf16 amx_tile", "bf16"),
        ("fpu avx2 avx512f", "fp32"),
        ("", "fp32"),
    ],
)
def test_a_cpu_computes_bf16_where_it_has_instructions_for_it(cpu_flags, flags, expected):
    cpu_flags(flags)
    assert fastest_precision("cpu", TRANSFORMERS) == expected


def test_a_gpu_computes_fp16(cpu_flags):
    cpu_flags("avx512_bf16")
    assert fastest_precision("cuda", TRANSFORMERS) == "fp16"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_ngrams_are_looked_up_in_fp32_everywhere(cpu_flags, device):
    cpu_flags("avx512_bf16")
    assert fastest_precision(device, NGRAMS) == "fp32"
    assert fastest_precision("cpu", ("dna_ngrams", "esm2")) == "bf16"


def test_an_unknown_machine_computes_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "none")
    assert not cpu_multiplies_bf16()
