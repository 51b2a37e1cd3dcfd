import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from virnuc_dask.encoders.dnabert_s import DnabertS, read_tokenizer
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.manifest import read_info


@pytest.fixture(scope="module")
def spec(parity_modelset):
    return read_info(parity_modelset).nucleotide


@pytest.fixture(scope="module")
def encoder(spec, parity_modelset) -> DnabertS:
    return load_encoder(spec, parity_modelset, Placement())


def frames(parity_dir, length):
    """Frame ids, their DNA, and the recorded DNABERT-S features."""
    recorded = parity_dir / f"expected_{length}"
    lines = (recorded / "input_identified_nucleotide.fa").read_text().splitlines()
    features = np.load(recorded / "features.npz")
    assert [line[1:] for line in lines[::2]] == features["ids"].tolist()
    return lines[1::2], features["features"][:, :96]


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("length", [500, 300])
def test_embeddings_are_the_published_ones(encoder, parity_dir, length):
    dna, expected = frames(parity_dir, length)
    embeddings = encoder.embed(dna)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5)


def test_bf16_stays_close(spec, parity_modelset, parity_dir):
    dna, expected = frames(parity_dir, 500)
    halved = load_encoder(spec, parity_modelset, Placement(precision="bf16"))
    embeddings = halved.embed(dna[:20])
    assert embeddings.dtype == np.float32
    assert cosines(embeddings, expected[:20]).min() >= 0.999


@pytest.mark.parametrize("max_tokens", [1, 300, 100_000])
def test_batch_sizes_do_not_change_embeddings(
    encoder, spec, parity_modelset, parity_dir, max_tokens
):
    dna = frames(parity_dir, 500)[0][:30]
    other = load_encoder(spec, parity_modelset, Placement(max_tokens=max_tokens))
    np.testing.assert_allclose(other.embed(dna), encoder.embed(dna), rtol=0, atol=1e-5)


def test_the_mean_is_over_all_tokens_of_the_last_layer(encoder):
    ids = encoder.tokenizer.encode("ACGTACGTTTGACA").ids
    with torch.inference_mode():
        *_, last = encoder.module.hidden_states(torch.tensor([ids]))
    np.testing.assert_allclose(
        encoder.embed(["ACGTACGTTTGACA"])[0], last[0].mean(0).numpy(), atol=1e-6
    )


def test_layers_are_all_there(encoder):
    with torch.inference_mode():
        states = list(encoder.module.hidden_states(torch.tensor([[1, 7, 8, 2]])))
    assert [tuple(state.shape) for state in states] == [(1, 4, 96)] * 4


def test_no_texts_give_no_rows(encoder):
    assert encoder.embed([]).shape == (0, 96)


def test_weight_bytes(encoder):
    assert encoder.weight_bytes == sum(p.nbytes for p in encoder.module.parameters())


def test_truncation_in_the_tokenizer_file_is_ignored(parity_dir, tmp_path):
    content = json.loads((parity_dir / "dnabert_s_tiny/tokenizer.json").read_text())
    content["truncation"] = {
        "direction": "Right",
        "max_length": 8,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    assert len(read_tokenizer(path).encode("ACGT" * 200).ids) > 8


def test_a_process_that_forks_hears_no_warning(parity_dir):
    program = (
        "import os, sys; from pathlib import Path\n"
        "from virnuc_dask.encoders.dnabert_s import read_tokenizer\n"
        "tokenizer = read_tokenizer(Path(sys.argv[1]))\n"
        "tokenizer.encode_batch_fast(['ACGT'] * 50)\n"
        "child = os.fork()\n"
        "if not child: tokenizer.encode_batch_fast(['ACGT'] * 50); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    path = str(parity_dir / "dnabert_s_tiny/tokenizer.json")
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


@pytest.mark.parametrize("content", [None, "", "{}", '{"model": 1}'])
def test_a_bad_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ModelSetError, match=r"tokenizer\.json: not a tokenizer"):
        read_tokenizer(path)


def test_a_merge_that_makes_no_token_is_refused(parity_dir, tmp_path):
    """The library crashes on it."""
    content = json.loads((parity_dir / "dnabert_s_tiny/tokenizer.json").read_text())
    content["model"]["merges"] = ["A [CLS]"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelSetError, match="it merges tokens to what"):
        read_tokenizer(path)


def test_weights_that_do_not_fit_are_named(spec, parity_modelset):
    wrong = replace(spec, config={**spec.config, "mlp_dim": 100})
    with pytest.raises(ModelSetError, match=r"nucleotide\.safetensors: not the weights"):
        load_encoder(wrong, parity_modelset, Placement())


@pytest.mark.parametrize("size", ["layers", "nonsense"])
def test_wrong_sizes_are_named(spec, parity_modelset, size):
    config = dict(spec.config)
    config.pop(size, None) or config.update({size: 1})
    with pytest.raises(ModelSetError, match=size):
        load_encoder(replace(spec, config=config), parity_modelset, Placement())


def test_a_dim_that_contradicts_the_sizes_is_refused(spec, parity_modelset):
    with pytest.raises(ModelSetError, match="dim 768"):
        load_encoder(replace(spec, dim=768), parity_modelset, Placement())


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 100])
def test_damaged_weights_are_named(spec, parity_modelset, tmp_path, content):
    shutil.copyfile(parity_modelset / "tokenizer.json", tmp_path / "tokenizer.json")
    if content is not None:
        (tmp_path / spec.file).write_bytes(content)
    with pytest.raises(ModelSetError, match=r"nucleotide\.safetensors: missing or damaged"):
        load_encoder(spec, tmp_path, Placement())
