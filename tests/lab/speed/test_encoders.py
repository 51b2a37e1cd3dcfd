import pytest

from virnuc_dask import Settings
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.encoders.processor import Processor, this_processor
from virnuc_dask.lab.speed import encoders
from virnuc_dask.lab.speed.encoders import (
    EncoderPlan,
    measure_encoders,
)
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.modelsets.source import ModelSource

LENGTH = 60


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(encoders.MAX_TOKENS, "cpu", (None, 128, 256))
    monkeypatch.setitem(encoders.ESM2_SIZES, "8M", Esm2Sizes(1, 40, 4))


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def has_bf16(request, monkeypatch):
    processor = Processor(this_processor().instructions, multiplies_bf16=request.param)
    monkeypatch.setattr(encoders, "this_processor", lambda: processor)
    return request.param


def plan_for(model, **more):
    source = ModelSource.from_settings(Settings(model=str(model)), read_info(find(str(model))))
    return EncoderPlan(source, chunk_length=LENGTH, trial_s=0.05, **more)


def test_transformers_are_compared_with_the_rate_of_their_products(parity_modelset, has_bf16):
    told: list[str] = []
    figures = measure_encoders(told.append, plan_for(parity_modelset, esm2=("8M",)))
    assert "matrix products" in told[0], "the ceiling comes first"
    labels = {trial.label for trial in figures.trials}
    assert set(figures.gemm_gflops) == labels
    assert (len(labels), len(figures.trials)) == (3, 3 * (1 + has_bf16))
    assert len(figures.swept) == 3 * 3
    assert figures.precision in ("fp32", "bf16")[: 1 + has_bf16]
    assert figures.max_tokens in (None, 128, 256)
    assert figures.frames_per_s > 0
    for described in figures.as_json()["encoders"]:
        assert described["fraction_of_gemm"] > 0
        near = described["smallest_cosine_to_fp32"]
        assert near is None if described["precision"] == "fp32" else near > 0.99


@pytest.mark.parametrize("model", ["frames_modelset", "mini"])
def test_n_grams_and_words_have_a_rate_but_no_ceiling(model, request):
    model = request.getfixturevalue(model) if model.endswith("_modelset") else model
    figures = measure_encoders(lambda _: None, plan_for(model))
    assert (figures.max_tokens, figures.precision) == (None, "fp32")
    assert [trial.fraction_of_gemm for trial in figures.trials] == [None, None]
    assert [trial.kind for trial in figures.trials] == ["dna", "peptide"]
    assert list(figures.gemm_gflops) == ["products of ESM-2 8M"]
