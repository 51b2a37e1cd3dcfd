import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from virnuc_dask.encoders.dnabert_s import read_tokenizer
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.manifest import read_info


@pytest.fixture(scope="module")
def spec(parity_modelset):
    return read_info(parity_modelset).nucleotide


@pytest.mark.parametrize("length", [500, 300])
def test_embeddings_are_the_published_ones(spec, parity_modelset, parity_dir, length):
    recorded = parity_dir / f"expected_{length}"
    lines = (recorded / "input_identified_nucleotide.fa").read_text().splitlines()
    features = np.load(recorded / "features.npz")
    assert [line[1:] for line in lines[::2]] == features["ids"].tolist()
    embeddings = load_encoder(spec, parity_modelset, Placement()).embed(lines[1::2])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, features["features"][:, :96], rtol=0, atol=1e-5)


@pytest.fixture
def tokenizer(parity_dir, tmp_path):
    """The tokenizer file with a change."""

    def changed(change):
        content = json.loads((parity_dir / "dnabert_s_tiny/tokenizer.json").read_text())
        change(content)
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(content))
        return path

    return changed


def test_truncation_in_the_tokenizer_file_is_ignored(tokenizer):
    limits = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    path = tokenizer(lambda content: content.update(truncation=limits))
    assert len(read_tokenizer(path).encode("ACGT" * 200).ids) > 8


def test_a_merge_that_makes_no_token_and_crashes_the_library_is_refused(tokenizer):
    path = tokenizer(lambda content: content["model"].update(merges=["A [CLS]"]))
    with pytest.raises(ModelSetError, match="it merges tokens to what"):
        read_tokenizer(path)


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


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 100])
def test_damaged_weights_are_named(spec, parity_modelset, tmp_path, content):
    shutil.copyfile(parity_modelset / "tokenizer.json", tmp_path / "tokenizer.json")
    if content is not None:
        (tmp_path / spec.file).write_bytes(content)
    with pytest.raises(ModelSetError, match=r"nucleotide\.safetensors: missing or damaged"):
        load_encoder(spec, tmp_path, Placement())
