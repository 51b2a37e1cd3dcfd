import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from virnuc_dask.config import load_settings
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.manifest import MANIFEST, read_info
from virnuc_dask.modelsets.modelset import (
    clear_cache,
    limit_threads,
    load,
    load_modelset,
    resolve_device,
)
from virnuc_dask.modelsets.source import ModelSource

DNA = ["ACGTACGTTGCA", "GGC", "ACGTACGTTGCATTTG"]
PEPTIDES = ["MKLV", "A", "MKLVX"]


@pytest.fixture
def folder(parity_modelset: Path, tmp_path: Path) -> Path:
    """A model set that a test may change."""
    return Path(shutil.copytree(parity_modelset, tmp_path / "modelset"))


@pytest.fixture
def source(folder: Path) -> ModelSource:
    return ModelSource.of(str(folder), read_info(folder), device="cpu")


@pytest.fixture
def _threads_as_before():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_loaded_model_set_embeds_and_scores(source, folder):
    models = load(source)
    nucleotide, peptide = models.encoders
    features = np.hstack([nucleotide.embed(DNA), peptide.embed(PEPTIDES)])
    assert features.shape == (3, models.info.feature_dim)
    scores = models.classifier.score(features)
    assert np.allclose(scores.sum(1), 1)
    assert len(np.unique(scores)) > 2
    files = sum((folder / name).stat().st_size for name in models.info.files if "safe" in name)
    assert models.weight_bytes == pytest.approx(files, rel=0.1)
    assert models.memory_bytes() > models.weight_bytes


def test_the_classifier_alone_neither_loads_nor_checks_the_encoders(source, folder):
    (folder / "peptide.safetensors").unlink()
    models = load(replace(source, encoders=False))
    assert models.encoders is None
    assert models.weight_bytes > 0


def test_a_damaged_file_is_refused(source, folder):
    content = bytearray((folder / "tokenizer.json").read_bytes())
    content[-1] ^= 1
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelSetError, match=r"tokenizer\.json: damaged"):
        load(source)


def test_a_model_set_that_is_not_as_planned_or_described_is_refused(source, folder):
    with pytest.raises(ModelSetError, match="not the one this run was planned with"):
        load(replace(source, checksum="0" * 64))
    manifest = (folder / MANIFEST).read_text()
    told = {
        '"esm2"': r"'esm9' is unknown \(known: .*esm2",
        '"layers": 3': "not the weights",
    }
    for (old, error), new in zip(told.items(), ('"esm9"', '"layers": 9'), strict=True):
        (folder / MANIFEST).write_text(manifest.replace(old, new))
        with pytest.raises(ModelSetError, match=error):
            load_modelset(str(folder), device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens without a GPU")
def test_without_a_gpu_auto_means_cpu_and_cuda_is_refused(source):
    assert resolve_device(replace(source, device="auto")) == "cpu"
    assert not clear_cache("cpu")
    with pytest.raises(ModelSetError, match="finds no CUDA GPU"):
        load(replace(source, device="cuda"))


@pytest.mark.usefixtures("_threads_as_before")
def test_threads_are_those_asked_for_and_else_no_more_than_the_containers_cores(
    source, monkeypatch
):
    monkeypatch.setattr("dask.system.CPU_COUNT", 2)
    load(replace(source, threads=4))
    assert torch.get_num_threads() == 4
    limit_threads(None)
    assert torch.get_num_threads() == 2
    limit_threads(1)
    limit_threads(None)
    assert torch.get_num_threads() == 1, "as they were"


def test_a_source_is_what_the_settings_ask_for(folder, monkeypatch):
    flags = {
        "model": folder.name,
        "precision": "bf16",
        "max_tokens": 99,
        "cluster.threads": 3,
        "cluster.device": "cpu",
        "memory.gpu_fraction": 0.5,
    }
    monkeypatch.chdir(folder.parent)
    info = read_info(folder)
    source = ModelSource.from_settings(load_settings(flags=flags), info, encoders=False)
    assert source == ModelSource(
        name=str(folder),  # absolute: workers may have another working directory
        checksum=info.checksum,
        device="cpu",
        precision="bf16",
        max_tokens=99,
        threads=3,
        gpu_fraction=0.5,
        encoders=False,
    )
    assert ModelSource.of("mini", info).name == "mini"


# Without MKL_CBWR matrices of 5 to 7 and 9 to 11 rows differ in the last bit.
PROGRAM = """
import sys
import numpy as np, torch
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.modelsets.classifier import Classifier
rng = np.random.default_rng(1)
torch.manual_seed(1)

def compare(name, compute):
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(np.asarray(compute()))
    if not np.array_equal(*results):
        print(name)

for inputs, outputs in ((80, 320), (96, 192), (176, 512), (512, 2), (480, 1920)):
    weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
    for rows in range(5, 12):
        x = torch.randn(rows, inputs)
        compare("product", lambda: torch.nn.functional.linear(x, weight, bias))
for inputs, hidden in ((32, 4), (22, 16), (300, 30), (11, 64)):
    classifier = Classifier(inputs, hidden).eval()
    for rows in range(1, 20):
        features = rng.normal(size=(rows, inputs)).astype(np.float32)
        compare("scores", lambda: classifier.score(features))
models = load_modelset(sys.argv[1], device="cpu")
texts = (
    ["".join(rng.choice(list("ACGT"), n)) for n in (3, 17, 90, 301, 301, 500)],
    ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in (1, 5, 9, 30, 100, 166)],
)
for encoder, given in zip(models.encoders, texts):
    compare("embeddings", lambda: encoder.embed(given))
"""


def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, parity_modelset):
    # In a new process, where MKL has not been called yet.
    monkeypatch.delenv("MKL_CBWR", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = [sys.executable, "-c", PROGRAM, str(parity_modelset)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
