import pytest

from virnuc_dask.encoders.precision import fastest_precision
from virnuc_dask.encoders.processor import AVX2, AVX512, Processor

TRANSFORMERS = ("dnabert_s", "esm2")
NGRAMS = ("dna_ngrams", "peptide_ngrams")
WORDS = ("dna_words", "peptide_words")
WITH_BF16 = Processor(AVX512, multiplies_bf16=True)
OLDER = Processor(AVX2, multiplies_bf16=False)


def test_a_cpu_computes_bf16_where_it_has_instructions_for_it():
    assert fastest_precision("cpu", WITH_BF16, TRANSFORMERS) == "bf16"
    assert fastest_precision("cpu", OLDER, TRANSFORMERS) == "fp32"


@pytest.mark.parametrize("processor", [WITH_BF16, OLDER])
def test_a_gpu_computes_fp16(processor):
    assert fastest_precision("cuda", processor, TRANSFORMERS) == "fp16"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_ngrams_and_words_are_looked_up_in_fp32_everywhere(device):
    assert fastest_precision(device, WITH_BF16, NGRAMS) == "fp32"
    assert fastest_precision(device, WITH_BF16, WORDS) == "fp32"
    assert fastest_precision("cpu", WITH_BF16, ("dna_ngrams", "esm2")) == "bf16"
