"""Which precision a run computes in: decided once, written down, kept by those who resume."""

import json
from dataclasses import replace

import pytest

from virnuc_dask.cluster import hardware as hardware_module
from virnuc_dask.cluster.hardware import Hardware
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.encoders.processor import AVX2, AVX512, Processor
from virnuc_dask.errors import BadSettingError
from virnuc_dask.modelsets.registry import find, read_info
from virnuc_dask.planning import chunks_a_partition, source_of, with_precision
from virnuc_dask.run import run
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import Counts, Decisions, Plan, read_plan

HERE = ClusterSettings(kind="none", device="cpu", threads=1)


@pytest.fixture
def transformers():
    """mini's description, as if its encoders were the published ones."""
    info = read_info(find("mini"))
    nucleotide = replace(info.nucleotide, architecture="dnabert_s")
    return replace(info, nucleotide=nucleotide, peptide=replace(info.peptide, architecture="esm2"))


CPU = Hardware("cpu", Processor(AVX2, multiplies_bf16=False))
NEW_CPU = Hardware("cpu", Processor(AVX512, multiplies_bf16=True))
GPU = Hardware("cuda", Processor(AVX2, multiplies_bf16=False))


@pytest.mark.parametrize(
    ("hardware", "expected"), [(CPU, "fp32"), (NEW_CPU, "bf16"), (GPU, "fp16")]
)
def test_auto_becomes_what_the_hardware_computes_fastest(transformers, hardware, expected):
    assert with_precision(Settings(), transformers, hardware).precision == expected
    assert with_precision(Settings(precision="fp32"), transformers, hardware).precision == "fp32"


def test_kernels_are_chosen_once_for_all_workers(transformers):
    source = source_of(Settings(precision="fp32"), transformers, CPU)
    assert (source.device, source.instructions) == ("cpu", AVX2)
    assert source_of(Settings(precision="fp16"), transformers, GPU).device == "cuda"
    assert source_of(Settings(), read_info(find("mini")), CPU).instructions is None, "looked up"


def test_a_run_in_fp16_is_not_resumed_on_cpus(transformers, tmp_path):
    decisions = Decisions("input", 500, 10, "fp16", "encoders", "modelset")
    earlier = Plan(RunFolder(tmp_path), decisions, Counts(1, 1, 500, 0, 0), ())
    with pytest.raises(BadSettingError, match="was planned so: resume it on GPUs"):
        with_precision(Settings(), transformers, CPU, earlier)


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


def test_a_resumed_run_keeps_its_precision(tmp_path):
    (tmp_path / "in.fa").write_text(">a\n" + "ACGTTG" * 100 + "\n")
    folder = RunFolder(tmp_path / "out")
    first = run(
        [tmp_path / "in.fa"], folder.path, settings=Settings(precision="bf16", cluster=HERE)
    )
    assert first.summary["partitions"]["computed"] == 1
    again = run([tmp_path / "in.fa"], folder.path, settings=Settings(cluster=HERE), resume=True)
    assert again.summary["partitions"]["computed"] == 0
    assert read_plan(folder).decisions.precision == "bf16"
    log = folder.log.read_text()
    assert '"precision": "bf16"' in log


def test_partitions_are_larger_where_a_frame_costs_next_to_nothing(transformers):
    mini = read_info(find("mini"))
    assert chunks_a_partition(Settings(), mini) > chunks_a_partition(Settings(), transformers)
    for info in (mini, transformers):
        assert chunks_a_partition(Settings(partition_chunks=7), info) == 7
