import pytest

from virnuc_dask import Settings
from virnuc_dask.encoders.esm2 import Esm2Sizes
from virnuc_dask.encoders.processor import Processor, this_processor
from virnuc_dask.errors import ModelSetError
from virnuc_dask.measuring import encoder_figures
from virnuc_dask.measuring.encoder_figures import EncoderPlan, measure_encoders
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.modelsets.source import ModelSource


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(encoder_figures.MAX_TOKENS, "cpu", (None, 128, 256))
    monkeypatch.setitem(encoder_figures.ESM2_SIZES, "8M", Esm2Sizes(1, 40, 4))


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def has_bf16(request, monkeypatch):
    processor = Processor(this_processor().instructions, multiplies_bf16=request.param)
    monkeypatch.setattr(encoder_figures, "this_processor", lambda: processor)
    return request.param


def plan_for(model, **more):
    source = ModelSource.from_settings(Settings(model=str(model)), read_info(find(str(model))))
    return EncoderPlan(source, chunk_length=60, trial_s=0.05, **more)


def test_transformers_are_compared_with_the_rate_of_their_products(parity_modelset, has_bf16):
    told: list[str] = []
    figures = measure_encoders(told.append, plan_for(parity_modelset, esm2=("8M",)))
    assert "matrix products" in told[0], "the ceiling comes first"
    labels = {trial.label for trial in figures.trials}
    assert len(labels) == 3
    assert set(figures.gemm_gflops) == labels
    assert len(figures.trials) == 3 * (1 + has_bf16)
    assert len(figures.swept) == 3 * 3
    assert all(figures.fraction(trial) > 0 for trial in figures.trials)
    assert figures.precision in ("fp32", "bf16")[: 1 + has_bf16]
    assert figures.max_tokens in (None, 128, 256)
    assert figures.frames_per_s > 0
    described = figures.as_json()["encoders"]
    assert {d["smallest_cosine_to_fp32"] is None for d in described if d["precision"] == "fp32"}
    assert all(d["smallest_cosine_to_fp32"] > 0.99 for d in described if d["precision"] == "bf16")


@pytest.mark.parametrize("model", ["frames_modelset", "mini"])
def test_n_grams_and_words_have_a_rate_but_no_ceiling(model, request):
    model = request.getfixturevalue(model) if model.endswith("_modelset") else model
    figures = measure_encoders(lambda _: None, plan_for(model))
    assert figures.max_tokens is None
    assert figures.precision == "fp32"
    assert [figures.fraction(trial) for trial in figures.trials] == [None, None]
    assert [trial.kind for trial in figures.trials] == ["dna", "peptide"]
    assert list(figures.gemm_gflops) == ["products of ESM-2 8M"]


def test_a_gpu_that_is_not_there_is_told(parity_modelset, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plan = plan_for(parity_modelset)
    source = plan.source.__class__(plan.source.name, plan.source.checksum, device="cuda")
    with pytest.raises(ModelSetError, match="--device cpu"):
        measure_encoders(print, EncoderPlan(source, 60))
