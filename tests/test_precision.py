"""Which precision a run computes in: decided once, written down, kept by those who resume."""

import json
from dataclasses import asdict, replace

import pytest

from virnuc_dask.cluster import hardware as hardware_module
from virnuc_dask.cluster.hardware import Hardware
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.encoders.processor import AVX2, AVX512, Processor
from virnuc_dask.errors import BadSettingError
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.planning import chunks_a_partition, decided, source_of
from virnuc_dask.run import run
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import Counts, Decisions, Plan, read_plan

HERE = ClusterSettings(kind="none", device="cpu", threads=1)


def published(base, esm2):
    """A model set with DNABERT-S and an ESM-2 of a published size, by their descriptions alone."""
    info = read_info(base)
    sizes = DNABERT_S_SIZES["117M"], ESM2_SIZES[esm2]
    nucleotide, peptide = (
        replace(spec, architecture=architecture, dim=size.embed_dim, config=asdict(size))
        for spec, architecture, size in zip(
            (info.nucleotide, info.peptide), ("dnabert_s", "esm2"), sizes, strict=True
        )
    )
    return replace(info, nucleotide=nucleotide, peptide=peptide)


@pytest.fixture(scope="module")
def transformers(frames_modelset):
    return published(frames_modelset, "8M")


CPU = Hardware("cpu", Processor(AVX2, multiplies_bf16=False))
NEW_CPU = Hardware("cpu", Processor(AVX512, multiplies_bf16=True))
GPU = Hardware("cuda", Processor(AVX2, multiplies_bf16=False))


@pytest.mark.parametrize(
    ("hardware", "expected"), [(CPU, "fp32"), (NEW_CPU, "bf16"), (GPU, "fp16")]
)
def test_precision_and_kernels_are_what_is_fastest_there(transformers, hardware, expected):
    assert decided(Settings(), transformers, hardware).precision == expected
    settings = Settings(precision="fp32")
    assert decided(settings, transformers, hardware).precision == "fp32"
    source, kernels = source_of(settings, transformers, hardware), hardware.processor.instructions
    wanted = (hardware.device, kernels if hardware.device == "cpu" else None)
    assert (source.device, source.instructions) == wanted


@pytest.mark.parametrize("hardware", [CPU, NEW_CPU, GPU])
def test_what_is_looked_up_is_computed_alike_everywhere(frames_modelset, hardware):
    for folder in (find("mini"), frames_modelset):
        info = read_info(folder)
        settings = decided(Settings(), info, hardware)
        assert settings.precision == "fp32"
        assert source_of(settings, info, hardware).instructions is None


def test_a_run_in_fp16_is_not_resumed_on_cpus(transformers, tmp_path):
    decisions = Decisions("input", 500, 10, "fp16", "encoders", "modelset")
    earlier = Plan(RunFolder(tmp_path), decisions, Counts(1, 1, 500, 0, 0), ())
    with pytest.raises(BadSettingError, match="was planned so: resume it on GPUs"):
        decided(Settings(), transformers, CPU, earlier)


@pytest.mark.parametrize(("hardware", "warnings"), [(CPU, 1), (NEW_CPU, 0)])
def test_bf16_where_the_processor_has_none_computes_with_one_warning(
    parity_modelset, parity_dir, tmp_path, monkeypatch, hardware, warnings
):
    monkeypatch.setattr(hardware_module, "this_processor", lambda: hardware.processor)
    settings = Settings(model=str(parity_modelset), precision="bf16", cluster=HERE)
    run([parity_dir / "input.fa"], tmp_path / "out", settings=settings)
    events = map(json.loads, (tmp_path / "out" / "run.log.jsonl").read_text().splitlines())
    told = [event["message"] for event in events if event["event"] == "warning"]
    assert sum("bf16 is slow here" in message for message in told) == warnings


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_what_a_cpu_is_slow_at_is_refused_before_anything_is_written(tmp_path, precision):
    settings = Settings(precision=precision, cluster=HERE)
    (tmp_path / "in.fa").write_text(">a\n" + "ACGTTG" * 100 + "\n")
    with pytest.raises(BadSettingError, match=f"{precision} is for GPUs"):
        run([tmp_path / "in.fa"], tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_partitions_are_sized_by_what_they_cost(transformers, frames_modelset):
    words, large = read_info(frames_modelset), published(frames_modelset, "3B")
    small = chunks_a_partition(transformers, 500, "cpu")
    # 200 frames, as of 360 chunks, took one of two workers 92 s when they were one partition.
    assert 10 <= small <= 36
    assert chunks_a_partition(large, 500, "cpu") < small
    assert chunks_a_partition(large, 500, "cuda") > 1000
    assert chunks_a_partition(transformers, 300, "cpu") > small
    assert chunks_a_partition(words, 500, "cpu") == 5000
    assert decided(Settings(), transformers, CPU).partition_chunks == small
    assert decided(Settings(partition_chunks=7), transformers, CPU).partition_chunks == 7


def test_a_resumed_run_keeps_its_precision_and_its_partitions(frames_modelset, tmp_path):
    (tmp_path / "in.fa").write_text(">a\n" + "ACGTTG" * 500 + "\n")
    settings = Settings(model=str(frames_modelset), cluster=HERE)
    first = replace(settings, partition_chunks=2, precision="bf16")
    run([tmp_path / "in.fa"], tmp_path / "out", settings=first)
    again = run([tmp_path / "in.fa"], tmp_path / "out", settings=settings, resume=True)
    assert again.summary["partitions"] == {"computed": 0, "failed": 0, "done_before": 3}
    assert read_plan(RunFolder(tmp_path / "out")).decisions.precision == "bf16"
    anew = run([tmp_path / "in.fa"], tmp_path / "out", settings=settings, force=True)
    assert anew.summary["partitions"]["computed"] == 1
