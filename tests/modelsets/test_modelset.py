import gc
import json
import shutil
import subprocess
import sys
import weakref
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
    memory_bytes,
    release,
    resolve_device,
)
from virnuc_dask.modelsets.source import ModelSource

DNA = ["ACGTACGTTGCA", "GGC", "ACGTACGTTGCATTTG"]
PEPTIDES = ["MKLV", "A", "MKLVX"]


@pytest.fixture
def folder(parity_modelset: Path, tmp_path: Path) -> Path:
    """A model set of this test's own."""
    return shutil.copytree(parity_modelset, tmp_path / "modelset")


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
    assert np.isfinite(features).all()
    scores = models.classifier.score(features)
    assert scores.shape == (3, 2)
    assert np.allclose(scores.sum(1), 1)
    assert len(np.unique(scores)) > 2
    assert models.device == "cpu"


def test_its_weights_are_counted_in_bytes(source, folder):
    models = load(source)
    files = sum((folder / name).stat().st_size for name in models.info.files if "safe" in name)
    assert models.weight_bytes == pytest.approx(files, rel=0.1)
    assert models.memory_bytes() > models.weight_bytes


def test_it_can_be_loaded_by_its_folder_from_python(folder):
    assert load_modelset(str(folder), device="cpu").info == read_info(folder)


def test_the_classifier_alone_neither_loads_nor_checks_the_encoders(source, folder):
    (folder / "peptide.safetensors").unlink()
    models = load(replace(source, encoders=False))
    assert models.encoders is None
    assert models.weight_bytes > 0


@pytest.mark.parametrize(
    "name",
    ["classifier.safetensors", "nucleotide.safetensors", "peptide.safetensors", "tokenizer.json"],
)
def test_a_damaged_or_missing_file_is_refused_before_it_is_read(source, folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelSetError, match=f"{folder / name}: damaged"):
        load(source)
    (folder / name).unlink()
    with pytest.raises(ModelSetError, match=f"{folder / name}: missing"):
        load(source)


def test_another_model_set_than_planned_is_refused(source):
    with pytest.raises(ModelSetError, match="not the one this run was planned with"):
        load(replace(source, checksum="0" * 64))


def test_an_unknown_architecture_is_refused_naming_it_and_the_known_ones(folder):
    content = json.loads((folder / MANIFEST).read_text())
    content["peptide"]["architecture"] = "esm9"
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelSetError, match=r"'esm9' is unknown \(known: .*esm2"):
        load_modelset(str(folder), device="cpu")


def test_an_encoder_of_another_size_than_described_is_refused(folder):
    content = json.loads((folder / MANIFEST).read_text())
    content["peptide"]["config"]["layers"] += 1
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ModelSetError, match="peptide"):
        load_modelset(str(folder), device="cpu")


def test_a_missing_model_set_is_refused(source, tmp_path):
    with pytest.raises(ModelSetError, match="no model set"):
        load(replace(source, name=str(tmp_path / "nowhere")))


def test_releasing_gives_back_classifier_and_encoders(source):
    models = load(source)
    parts = [weakref.ref(part) for part in (models.classifier, *models.encoders)]
    tensors = [weakref.ref(p) for p in models.classifier.parameters()]
    assert all(part() is not None for part in parts)
    release(models)
    gc.collect()
    assert [part() for part in parts] == [None] * 3
    assert not any(tensor() is not None for tensor in tensors)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens without a GPU")
def test_without_a_gpu_auto_means_cpu_and_cuda_is_refused(source):
    assert resolve_device(replace(source, device="auto")) == "cpu"
    with pytest.raises(ModelSetError, match="finds no CUDA GPU"):
        load(replace(source, device="cuda"))


def test_cpu_is_the_cpu_and_has_no_cache_to_clear(source):
    assert resolve_device(source) == "cpu"
    assert not clear_cache("cpu")
    assert memory_bytes("cpu") > 0


@pytest.mark.usefixtures("_threads_as_before")
def test_the_number_of_threads_is_the_one_asked_for(source):
    load(replace(source, threads=2))
    assert torch.get_num_threads() == 2
    limit_threads(None)
    assert torch.get_num_threads() == 2
    limit_threads(1)
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("_threads_as_before")
def test_without_a_wish_threads_are_no_more_than_the_containers_cores(monkeypatch):
    limit_threads(4)
    monkeypatch.setattr("dask.system.CPU_COUNT", 2)
    limit_threads(None)
    assert torch.get_num_threads() == 2
    limit_threads(4)
    assert torch.get_num_threads() == 4, "as asked for"


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


def test_an_embedded_model_set_keeps_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert ModelSource.of("mini", read_info(folder)).name == "mini"


LINEAR = """
import virnuc_dask.modelsets.modelset
import torch
torch.manual_seed(1)
for inputs, outputs in ((80, 320), (96, 192), (176, 512), (512, 2), (480, 1920)):
    weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
    for rows in range(5, 12):
        x, results = torch.randn(rows, inputs), []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(torch.nn.functional.linear(x, weight, bias))
        if not torch.equal(*results):
            print(inputs, outputs, rows)
"""

SCORE = """
import numpy as np, torch
from virnuc_dask.modelsets.classifier import Classifier
import virnuc_dask.modelsets.modelset
rng = np.random.default_rng(1)
for inputs, hidden in ((32, 4), (22, 16), (300, 30), (11, 64)):
    classifier = Classifier(inputs, hidden).eval()
    for rows in range(1, 20):
        features, results = rng.normal(size=(rows, inputs)).astype(np.float32), []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(classifier.score(features))
        if not np.array_equal(*results):
            print(inputs, hidden, rows)
"""

EMBED = """
import sys
import numpy as np, torch
from virnuc_dask.modelsets.modelset import load_modelset
models = load_modelset(sys.argv[1], device="cpu")
rng = np.random.default_rng(1)
dna = ["".join(rng.choice(list("ACGT"), n)) for n in (3, 17, 90, 301, 301, 500)]
peptides = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in (1, 5, 9, 30, 100, 166)]
results = []
for threads in (1, 2):
    torch.set_num_threads(threads)
    nucleotide, peptide = models.encoders
    features = np.hstack([nucleotide.embed(dna), peptide.embed(peptides)])
    results.append((features, models.classifier.score(features)))
for name, one, two in zip(("embeddings", "scores"), *results):
    if not np.array_equal(one, two):
        print(name, np.abs(one - two).max())
"""


def differences(program: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What ``program`` prints in a process of its own, where MKL has not been called yet."""
    monkeypatch.delenv("MKL_CBWR", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_matrix_product_does_not_depend_on_the_number_of_threads(monkeypatch):
    # Without MKL_CBWR matrices of 5 to 7 and 9 to 11 rows differ in the last bit.
    assert differences(LINEAR, monkeypatch) == ""


def test_scores_of_few_rows_do_not_depend_on_the_number_of_threads(monkeypatch):
    assert differences(SCORE, monkeypatch) == ""


def test_embeddings_and_scores_do_not_depend_on_the_number_of_threads(monkeypatch, folder):
    assert differences(EMBED, monkeypatch, str(folder)) == ""
