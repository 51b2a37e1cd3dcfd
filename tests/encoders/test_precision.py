import pytest

from virnuc_dask.encoders.precision import fastest_precision
from virnuc_dask.encoders.processor import AVX2, AVX512, Processor

WITH_BF16 = Processor(AVX512, multiplies_bf16=True)
OLDER = Processor(AVX2, multiplies_bf16=False)


@pytest.mark.parametrize(
    ("device", "processor", "architectures", "expected"),
    [
        ("cpu", WITH_BF16, ("dnabert_s", "esm2"), "bf16"),
        ("cpu", OLDER, ("dnabert_s", "esm2"), "fp32"),
        ("cuda", OLDER, ("dnabert_s", "esm2"), "fp16"),
        ("cpu", WITH_BF16, ("dna_words", "peptide_words"), "fp32"),
        ("cuda", WITH_BF16, ("dna_words", "peptide_words"), "fp32"),
        ("cpu", WITH_BF16, ("dna_words", "esm2"), "bf16"),
    ],
)
def test_the_fastest_precision(device, processor, architectures, expected):
    assert fastest_precision(device, processor, architectures) == expected
