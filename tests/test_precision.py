"""Which precision a run computes in: decided once, written down, kept by those who resume."""

from dataclasses import replace

import pytest

from virnuc_dask import planning
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.encoders.processor import AVX512, Processor
from virnuc_dask.errors import BadSettingError
from virnuc_dask.modelsets.registry import find, read_info
from virnuc_dask.planning import chunks_a_partition, with_precision
from virnuc_dask.run import run
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan

HERE = ClusterSettings(kind="none", device="cpu", threads=1)


@pytest.fixture
def transformers():
    """mini's description, as if its encoders were the published ones."""
    info = read_info(find("mini"))
    nucleotide = replace(info.nucleotide, architecture="dnabert_s")
    return replace(info, nucleotide=nucleotide, peptide=replace(info.peptide, architecture="esm2"))


@pytest.mark.parametrize(("device", "expected"), [("cpu", "bf16"), ("cuda", "fp16")])
def test_auto_becomes_what_the_device_computes_fastest(monkeypatch, transformers, device, expected):
    monkeypatch.setattr(planning, "device_of", lambda settings: device)
    monkeypatch.setattr(planning, "this_processor", lambda: Processor(AVX512, multiplies_bf16=True))
    assert with_precision(Settings(), transformers).precision == expected
    assert with_precision(Settings(precision="fp32"), transformers).precision == "fp32"


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
