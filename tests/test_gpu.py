"""What only a GPU can show. Runs where there is one: ``pytest -m gpu``."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from virnuc_dask import Run, Settings, load_settings, run
from virnuc_dask.encoders.fp8 import gpu_multiplies_fp8
from virnuc_dask.lab.speed.encoders import smallest_cosine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here"),
]


@pytest.fixture(scope="module")
def settings(parity_modelset: Path) -> Settings:
    flags = {"model": str(parity_modelset), "partition_chunks": 20, "cluster.kind": "cuda"}
    return load_settings(flags=flags | {"cluster.workers": 1, "memory.clear_cache_every": 2})


@pytest.fixture(scope="module")
def on_gpu(parity_dir, settings, tmp_path_factory) -> Run:
    return run([parity_dir / "input.fa"], tmp_path_factory.mktemp("gpu") / "out", settings=settings)


@pytest.fixture(scope="module")
def on_cpu(parity_dir, settings, tmp_path_factory) -> Run:
    cluster = replace(settings.cluster, kind="none", device="cpu")
    here = replace(settings, cluster=cluster, precision="fp32")
    return run([parity_dir / "input.fa"], tmp_path_factory.mktemp("cpu") / "out", settings=here)


@pytest.mark.parametrize(
    ("precision", "cosine"), [("fp16", 0.9999), ("bf16", 0.999), ("fp8", 0.999)]
)
def test_features_point_where_the_cpu_s_point(
    parity_dir, settings, on_cpu, tmp_path, precision, cosine
):
    if precision == "fp8" and not gpu_multiplies_fp8():
        pytest.skip("this GPU does not multiply fp8")
    done = run(
        [parity_dir / "input.fa"],
        tmp_path / "out",
        settings=replace(settings, precision=precision),
    )
    for column in ("nucleotide", "peptide"):
        assert smallest_cosine(_vectors(done, column), _vectors(on_cpu, column)) >= cosine


def test_the_model_set_is_loaded_once_onto_a_named_gpu_and_its_memory_given_back(on_gpu):
    (loaded,) = _events(on_gpu, "modelset_loaded")
    (released,) = _events(on_gpu, "modelset_released")
    assert "GPU-" in loaded["device"] or "NVIDIA" in loaded["device"]
    assert loaded["memory_before_bytes"] < loaded["memory_after_bytes"]
    assert released["memory_after_bytes"] < released["memory_before_bytes"]


def test_cached_memory_is_given_back_every_few_partitions_and_at_the_end(on_gpu):
    partitions = len(_events(on_gpu, "partition_done"))
    assert len(_events(on_gpu, "cache_cleared")) == partitions // 2 + 1


def test_encoders_in_turn_give_the_same_bytes_in_groups(parity_dir, settings, on_gpu, tmp_path):
    cluster = replace(settings.cluster, partitions_at_once=8)
    memory = replace(settings.memory, residency="in_turn")
    changed = replace(settings, cluster=cluster, memory=memory)
    done = run([parity_dir / "input.fa"], tmp_path / "out", settings=changed)
    for column in ("nucleotide", "peptide"):
        np.testing.assert_array_equal(_vectors(done, column), _vectors(on_gpu, column))
    assert len(_events(done, "encoder_loaded")) < 2 * done.summary["partitions"]["computed"]
    (loaded,) = _events(done, "modelset_loaded")
    assert loaded["residency"] == "one encoder in memory at a time (as set)"


def _vectors(done: Run, column: str) -> np.ndarray:
    rows = done.dataset("features").to_table(columns=[column])[column].to_pylist()
    return np.array(rows)


def _events(done: Run, kind: str) -> list[dict]:
    lines = (done.folder / "run.log.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]
