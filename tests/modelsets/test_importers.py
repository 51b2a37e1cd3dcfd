"""Imports of published checkpoints: what comes out, and what is refused without being run."""

import json
import os
import re
import shutil
import sys
import types
import zipfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from virnuc_dask.encoders import cost
from virnuc_dask.errors import ModelSetError, UsageError
from virnuc_dask.modelsets.classifier import load_classifier
from virnuc_dask.modelsets.importing import modelset
from virnuc_dask.modelsets.importing.checkpoints import Inert
from virnuc_dask.modelsets.importing.modelset import (
    Checkpoints,
    import_classifier,
    import_dnabert_s,
    import_esm2,
    import_modelset,
)
from virnuc_dask.modelsets.manifest import read_info, verify

INPUTS = 176


@pytest.fixture
def checkpoints(parity_dir) -> Checkpoints:
    return Checkpoints(
        dnabert_s=parity_dir / "dnabert_s_tiny",
        esm2=parity_dir / "esm2_tiny.pt",
        classifier=parity_dir / "classifier.pth",
    )


@pytest.fixture
def dnabert_s(parity_dir, tmp_path) -> Path:
    """A copy of the tiny DNABERT-S, to be changed."""
    return Path(shutil.copytree(parity_dir / "dnabert_s_tiny", tmp_path / "dnabert_s"))


def as_in_main(name: str, member: type, monkeypatch) -> None:
    """Let a class pickle as a member of ``__main__``, as that of a script does."""
    main = types.ModuleType("__main__")
    member.__module__, member.__qualname__ = "__main__", name
    setattr(main, name, member)
    monkeypatch.setitem(sys.modules, "__main__", main)


def published_classifier() -> type[nn.Module]:
    class MLPClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden_layer = nn.Linear(INPUTS, 8)
            self.bn1 = nn.BatchNorm1d(8)
            self.output_layer = nn.Linear(8, 2)
            self.dropout = nn.Dropout(0.5)

    return MLPClassifier


# What comes out


def test_a_modelset_is_complete_and_readable_by_everyone(parity_modelset):
    info = read_info(parity_modelset)
    verify(parity_modelset, info)
    assert (info.chunk_lengths, info.feature_dim) == ((500, 300), INPUTS)
    parts = {f"{part}.safetensors" for part in ("classifier", "nucleotide", "peptide")}
    assert set(info.files) == {*parts, "tokenizer.json"}
    files = list(parity_modelset.iterdir())
    assert {path.name for path in files} == {*info.files, "README.md", "modelset.json"}
    assert {path.stat().st_mode & 0o444 for path in files} == {0o444}
    card = (parity_modelset / "README.md").read_text()
    for source in ("pytorch_model.bin", "esm2_tiny.pt", "classifier.pth"):
        assert f"`{source}`" in card


def test_dnabert_s_as_safetensors_and_with_prefix_is_the_same(dnabert_s, parity_dir, tmp_path):
    weights = torch.load(dnabert_s / "pytorch_model.bin", weights_only=True)
    halves = {f"bert.{name}": tensor.half() for name, tensor in weights.items()}
    (dnabert_s / "pytorch_model.bin").unlink()
    save_file(halves, dnabert_s / "model.safetensors")
    for folder, origin in (("a", parity_dir / "dnabert_s_tiny"), ("b", dnabert_s)):
        (tmp_path / folder).mkdir()
        import_dnabert_s(origin, tmp_path / folder)
    a, b = (load_file(tmp_path / folder / "nucleotide.safetensors") for folder in "ab")
    assert a.keys() == b.keys()
    assert {tensor.dtype for tensor in b.values()} == {torch.float16}, "as it was"
    assert all(torch.equal(a[name].half(), b[name]) for name in a)


@pytest.mark.parametrize("suffix", ["module.pth", "state.pth", "state.safetensors"])
def test_the_classifier_is_the_same_from_every_format(tmp_path, monkeypatch, suffix):
    model_class = published_classifier()
    as_in_main("MLPClassifier", model_class, monkeypatch)
    model = model_class()
    path = tmp_path / suffix
    if suffix.endswith(".safetensors"):
        save_file(model.state_dict(), path)
    else:
        torch.save(model if suffix == "module.pth" else model.state_dict(), path)
    spec = import_classifier(path, tmp_path, INPUTS)
    assert spec.hidden == 8
    ours = load_classifier(tmp_path / spec.file, INPUTS, 8).state_dict()
    published = model.state_dict()
    for name, tensor in ours.items():
        layer, _, part = name.partition(".")
        theirs = {"hidden": "hidden_layer", "norm": "bn1", "output": "output_layer"}[layer]
        assert torch.equal(tensor, published[f"{theirs}.{part}"])
    allowed = torch.serialization.get_safe_globals()
    assert not [entry for entry in allowed if isinstance(entry, tuple) and entry[0] is Inert]


@pytest.mark.parametrize("weights", [None, "fp16", "bf16"])
def test_weights_are_stored_in_the_precision_asked_for(checkpoints, tmp_path, weights):
    info = import_modelset("x", tmp_path / "out", (500,), checkpoints, weights)
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(weights, torch.float32)
    for spec in (info.nucleotide, info.peptide):
        tensors = load_file(tmp_path / "out" / spec.file)
        frequencies = tensors.pop("inverse_frequencies", torch.ones(1))
        assert frequencies.dtype == torch.float32
        assert {tensor.dtype for tensor in tensors.values()} == {wanted}
    classifier = load_file(tmp_path / "out" / info.classifier.file)
    assert classifier["hidden.weight"].dtype == torch.float32
    card = (tmp_path / "out" / "README.md").read_text()
    assert (f"stored as {weights}" in card) == (weights is not None)


def test_weights_too_large_for_the_precision_are_refused(dnabert_s, tmp_path):
    tensors = torch.load(dnabert_s / "pytorch_model.bin", weights_only=True)
    tensors["embeddings.word_embeddings.weight"][0, 0] = 1e6
    torch.save(tensors, dnabert_s / "pytorch_model.bin")
    with pytest.raises(ModelSetError, match="does not fit into fp16; store it as bf16 or fp32"):
        import_dnabert_s(dnabert_s, tmp_path, "fp16")


def test_encoders_are_called_by_their_names(checkpoints, tmp_path, monkeypatch, command):
    """Names are for people: a set that has none is the same set."""
    unnamed = import_modelset("x", tmp_path / "unnamed", (500,), checkpoints)
    monkeypatch.setitem(cost.ESM2, "tiny", (4, 80, 4))
    info = import_modelset("x", tmp_path / "named", (500,), checkpoints)
    assert (info.nucleotide.name, info.peptide.name) == ("DNABERT-S", "ESM-2 tiny")
    assert (unnamed.peptide.name, unnamed.peptide.title) == (None, "esm2")
    assert "ESM-2 tiny" in (tmp_path / "named/modelset.json").read_text()
    assert '"name": null' not in (tmp_path / "unnamed/modelset.json").read_text()
    assert unnamed.checksum == info.checksum
    _, out, _ = command("models", "show", tmp_path / "named")
    assert re.search(
        r"encoder   ESM-2 tiny: 3\d\d,\d{3} values, 0\.\d GFLOP a frame of 500 nt", out
    )


def test_encoders_alone_are_marked_and_warned_of(checkpoints, tmp_path, command):
    out, fasta = tmp_path / "encoders", tmp_path / "in.fa"
    info = import_modelset("e", out, (500,), replace(checkpoints, classifier=None))
    assert (info.is_trained, read_info(out).is_trained) == (False, False)
    fasta.write_text(f">a\n{'ACGGTAC' * 90}\n")
    assert "(classifier not trained)" in command("models", "show", out)[1]
    code, _, err = command("run", fasta, "-o", tmp_path / "o", "--model", out, "--cluster", "none")
    told = re.sub(r"\s+", " ", err)
    assert (code, "has no trained classifier: its scores and calls mean nothing" in told) == (
        0,
        True,
    )


# All or nothing


def test_an_existing_folder_is_left_alone(checkpoints, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        import_modelset("x", tmp_path, (500,), checkpoints)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_failed_import_leaves_nothing(checkpoints, parity_dir, tmp_path):
    broken = replace(checkpoints, classifier=parity_dir / "input.fa")
    with pytest.raises(ModelSetError, match=r"input\.fa"):
        import_modelset("x", tmp_path / "out", (500,), broken)
    assert list(tmp_path.iterdir()) == []


def test_of_two_imports_at_the_same_time_one_makes_the_folder(checkpoints, tmp_path, monkeypatch):
    out, imported = tmp_path / "out", modelset.import_esm2

    def meanwhile(*given):
        monkeypatch.setattr(modelset, "import_esm2", imported)
        import_modelset("first", out, (500,), checkpoints)
        return imported(*given)

    monkeypatch.setattr(modelset, "import_esm2", meanwhile)
    with pytest.raises(UsageError, match="out: cannot be written"):
        import_modelset("second", out, (500,), checkpoints)
    verify(out, read_info(out))
    assert (read_info(out).name, list(tmp_path.iterdir())) == ("first", [out])


# Refused, and nothing run; programs in each part: tests/malice/test_files.py


def test_another_class_is_refused_by_name(tmp_path, monkeypatch):
    other = published_classifier()
    as_in_main("Backdoor", other, monkeypatch)
    torch.save(other(), tmp_path / "classifier.pth")
    with pytest.raises(ModelSetError, match=r"would call __main__\.Backdoor"):
        import_classifier(tmp_path / "classifier.pth", tmp_path, INPUTS)


CRAFTED = {
    "called with arguments": b"\x80\x02c__main__\nMLPClassifier\nK\x01\x85R.",
    "made with arguments": b"\x80\x02c__main__\nMLPClassifier\nK\x01\x85\x81.",
    "state no dictionary": b"\x80\x02c__main__\nMLPClassifier\n)\x81K\x01b.",
    "no state": b"\x80\x02c__main__\nMLPClassifier\n)\x81.",
    "unknown memo": b"\x80\x02h\x07.",
    "empty stack": b"\x80\x020.",
    "cut in a string": b"\x80\x02X\xff\xff",
    "a number": b"\x80\x02K\x01.",
    "empty": b"",
    "noise": os.urandom(200),
}


@pytest.mark.parametrize("program", CRAFTED.values(), ids=CRAFTED)
def test_crafted_pickles_are_refused(tmp_path, program):
    path = tmp_path / "crafted.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    with pytest.raises(ModelSetError, match=r"crafted\.pth: "):
        import_classifier(path, tmp_path, INPUTS)


# Damaged, or not what it should be


def read_as(path: Path) -> None:
    """Import a file, or a folder, as what its name says that it is."""
    if path.suffix == ".pt":
        import_esm2(path, path.parent)
    elif path.suffix:
        import_classifier(path, path.parent, INPUTS)
    else:
        import_dnabert_s(path, path.parent)


@pytest.mark.parametrize("name", ["classifier.pth", "esm2_tiny.pt"])
@pytest.mark.parametrize("lost", [slice(10, None), slice(-1, None), slice(-400, -100)], ids=str)
def test_a_damaged_file_is_named(parity_dir, tmp_path, name, lost):
    content = bytearray((parity_dir / name).read_bytes())
    content[lost] = b"" if lost.stop is None else bytes(300)  # the directory of the zip file
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelSetError, match=rf"{name}: (cut short|damaged)"):
        read_as(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.pt", "x"])
def test_other_and_missing_files_are_named(tmp_path, content, name):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelSetError, match=rf"{name}[:/]"):
        read_as(tmp_path / name)


def test_a_classifier_of_other_encoders_is_refused(checkpoints, tmp_path):
    with pytest.raises(ModelSetError, match="takes 176 values, but the two encoders give 3328"):
        import_classifier(checkpoints.classifier, tmp_path, 3328)


PLAIN = "not a plain tensor of finite"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("output_layer.weight", torch.zeros(3, 8), "'output.weight' should be"),
        ("output_layer.more", torch.zeros(3), "'output.more' should be absent"),
        ("output_layer.bias", None, "'output.bias' should be"),
        ("hidden_layer.weight", torch.zeros(8), "takes 0 values"),
        ("bn1.running_var", torch.full((8,), torch.nan), PLAIN),
        ("hidden_layer.weight", torch.zeros(1).expand(8, INPUTS), PLAIN),
        ("hidden_layer.weight", torch.zeros(8, INPUTS).to_sparse(), PLAIN),
        ("hidden_layer.weight", torch.zeros(8, INPUTS, device="meta"), PLAIN),
        ("hidden_layer.weight", "text", PLAIN),
    ],
)
def test_odd_tensors_are_refused(tmp_path, name, value, message):
    weights = dict(published_classifier()().state_dict()) | {name: value}
    given = {name: tensor for name, tensor in weights.items() if tensor is not None}
    torch.save(given, tmp_path / "classifier.pth")
    with pytest.raises(ModelSetError, match=message):
        import_classifier(tmp_path / "classifier.pth", tmp_path, INPUTS)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("num_hidden_layers", (0, 2, 4)),
        ("hidden_size", (128,)),
        ("num_attention_heads", (7,)),
        ("vocab_size", (1000, 10**9)),
        ("intermediate_size", ("192",)),
        ("model_type", ("esm",)),
        ("hidden_act", ("relu",)),
    ],
)
def test_a_dnabert_s_that_contradicts_its_configuration_is_refused(dnabert_s, key, values):
    config = json.loads((dnabert_s / "config.json").read_text())
    for value in values:
        (dnabert_s / "config.json").write_text(json.dumps(config | {key: value}))
        with pytest.raises(ModelSetError, match="dnabert_s"):
            import_dnabert_s(dnabert_s, dnabert_s.parent)


def test_a_tokenizer_of_another_model_is_refused(dnabert_s, tmp_path):
    content = json.loads((dnabert_s / "tokenizer.json").read_text())
    content["post_processor"] = None
    (dnabert_s / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelSetError, match=r"tokenizer\.json: not a tokenizer of DNA"):
        import_dnabert_s(dnabert_s, tmp_path)


@pytest.mark.parametrize("config", [None, 1, {"model": Namespace(encoder_layers=4)}])
def test_a_pt_file_that_is_no_esm2_is_refused(tmp_path, config):
    torch.save({"cfg": config} | ({"model": {}} if config else {}), tmp_path / "other.pt")
    with pytest.raises(ModelSetError, match=r"other\.pt"):
        import_esm2(tmp_path / "other.pt", tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("position_embedding_type", "absolute"), ("emb_layer_norm_before", True)]
)
def test_an_older_esm_is_refused(tmp_path, key, value):
    config = {"model_type": "esm", "position_embedding_type": "rotary", "layer_norm_eps": 1e-5}
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(ModelSetError, match=rf"config\.json: not .* ESM-2 \(see {key}"):
        import_esm2(tmp_path, tmp_path)


@pytest.mark.parametrize("weight_map", [None, {}, {"a": "../model.safetensors"}, {"a": 1}])
def test_an_index_that_points_elsewhere_is_refused(dnabert_s, tmp_path, weight_map):
    (dnabert_s / "pytorch_model.bin").unlink()
    index = dnabert_s / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelSetError, match="does not list files of its folder"):
        import_dnabert_s(dnabert_s, tmp_path)
