"""Imports of published checkpoints: what comes out, and what is refused without being run."""

import json
import os
import pickle
import shutil
import sys
import threading
import types
import zipfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from virnuc_dask.errors import ModelSetError, UsageError
from virnuc_dask.modelsets.classifier import load_classifier
from virnuc_dask.modelsets.importing.checkpoints import Inert, read_checkpoint
from virnuc_dask.modelsets.importing.modelset import (
    CLASSIFIER_CLASSES,
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


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, track: Path) -> None:
        self.track = track

    def __reduce__(self):
        return os.system, (f"touch {self.track}",)


def as_in_main(classes: dict[str, type], monkeypatch) -> None:
    """Let classes pickle as members of ``__main__``, as those of a script do."""
    main = types.ModuleType("__main__")
    for name, member in classes.items():
        member.__module__, member.__qualname__ = "__main__", name
        setattr(main, name, member)
    monkeypatch.setitem(sys.modules, "__main__", main)


def published_classifier(inputs: int = INPUTS) -> type[nn.Module]:
    class MLPClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden_layer = nn.Linear(inputs, 8)
            self.bn1 = nn.BatchNorm1d(8)
            self.output_layer = nn.Linear(8, 2)
            self.dropout = nn.Dropout(0.5)

    return MLPClassifier


# What comes out


def test_a_modelset_is_complete_and_verified(parity_modelset):
    info = read_info(parity_modelset)
    verify(parity_modelset, info)
    assert info.chunk_lengths == (500, 300)
    assert info.feature_dim == INPUTS
    assert sorted(info.files) == [
        "classifier.safetensors",
        "nucleotide.safetensors",
        "peptide.safetensors",
        "tokenizer.json",
    ]
    assert {path.name for path in parity_modelset.iterdir()} == {
        *info.files,
        "README.md",
        "modelset.json",
    }


def test_the_card_names_the_sources(parity_modelset):
    card = (parity_modelset / "README.md").read_text()
    for source in ("pytorch_model.bin", "esm2_tiny.pt", "classifier.pth"):
        assert f"`{source}`" in card


@pytest.mark.parametrize("length", [500, 300])
def test_the_classifier_gives_the_published_scores(parity_modelset, parity_dir, length):
    recorded = parity_dir / f"expected_{length}"
    rows = (recorded / "prediction_results.txt").read_text().splitlines()[1:]
    expected = np.array([row.split("\t")[2:] for row in rows], np.float32)
    classifier = load_classifier(parity_modelset / "classifier.safetensors", INPUTS, 512)
    scores = classifier.score(np.load(recorded / "features.npz")["features"])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_tensors_keep_their_type(parity_dir, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(parity_dir / "dnabert_s_tiny", folder)
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({name: t.half() for name, t in weights.items()}, folder / "pytorch_model.bin")
    import_dnabert_s(folder, tmp_path)
    stored = load_file(tmp_path / "nucleotide.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_dnabert_s_as_safetensors_and_with_prefix_is_the_same(parity_dir, tmp_path):
    source, other = parity_dir / "dnabert_s_tiny", tmp_path / "other"
    shutil.copytree(source, other)
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)
    save_file({f"bert.{name}": t for name, t in weights.items()}, other / "model.safetensors")
    (other / "pytorch_model.bin").unlink()
    for folder, origin in (("a", source), ("b", other)):
        (tmp_path / folder).mkdir()
        import_dnabert_s(origin, tmp_path / folder)
    a, b = (load_file(tmp_path / folder / "nucleotide.safetensors") for folder in "ab")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("suffix", ["module.pth", "state.pth", "state.safetensors"])
def test_the_classifier_is_the_same_from_every_format(tmp_path, monkeypatch, suffix):
    model_class = published_classifier()
    as_in_main({"MLPClassifier": model_class}, monkeypatch)
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


def test_a_state_dictionary_with_our_own_names_is_taken(parity_modelset, tmp_path):
    spec = import_classifier(parity_modelset / "classifier.safetensors", tmp_path, INPUTS)
    assert spec.hidden == 512


# All or nothing


def test_an_existing_folder_is_left_alone(checkpoints, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        import_modelset("x", tmp_path, (500,), checkpoints)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_failed_import_leaves_nothing(checkpoints, parity_dir, tmp_path):
    broken = Checkpoints(checkpoints.dnabert_s, checkpoints.esm2, parity_dir / "input.fa")
    with pytest.raises(ModelSetError, match=r"input\.fa"):
        import_modelset("x", tmp_path / "out", (500,), broken)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_import_leaves_nothing(checkpoints, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("virnuc_dask.modelsets.importing.modelset.write_info", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_modelset("x", tmp_path / "out", (500,), checkpoints)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_import_left_is_taken_away(checkpoints, tmp_path):
    left = tmp_path / ".out.import"
    left.mkdir()
    (left / "peptide.safetensors").write_bytes(b"half of it")
    info = import_modelset("x", tmp_path / "out", (500,), checkpoints)
    verify(tmp_path / "out", info)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_what_no_import_left_is_not_taken_away(checkpoints, tmp_path):
    left = tmp_path / ".out.import"
    left.mkdir()
    for path in (left / "thesis.tex", tmp_path / ".out.lock"):
        path.write_text("mine")
        with pytest.raises(UsageError, match=f"{path.name}: was left by no import"):
            import_modelset("x", tmp_path / "out", (500,), checkpoints)
        assert path.read_text() == "mine"
        path.unlink()


def test_of_imports_at_the_same_time_one_makes_the_folder_and_the_others_wait(
    checkpoints, tmp_path, monkeypatch
):
    at_work = threading.Lock()

    def alone(*arguments):
        assert at_work.acquire(blocking=False), "two convert at once"
        try:
            return import_esm2(*arguments)
        finally:
            at_work.release()

    monkeypatch.setattr("virnuc_dask.modelsets.importing.modelset.import_esm2", alone)
    with ThreadPoolExecutor(3) as pool:
        imports = [
            pool.submit(import_modelset, f"x{n}", tmp_path / "out", (500,), checkpoints)
            for n in range(3)
        ]
    errors = [str(done.exception()) for done in imports if done.exception()]
    assert len(errors) == 2
    assert all("exists already" in error for error in errors)
    verify(tmp_path / "out", read_info(tmp_path / "out"))


# Stored as they are, or as they will be computed in


@pytest.mark.parametrize("weights", [None, "fp32", "fp16", "bf16"])
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


def test_weights_too_large_for_the_precision_are_refused(checkpoints, parity_dir, tmp_path):
    folder = shutil.copytree(parity_dir / "dnabert_s_tiny", tmp_path / "dnabert_s")
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    (name,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name][0, 0] = 1e6
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ModelSetError, match="does not fit into fp16; store it as bf16 or fp32"):
        import_dnabert_s(folder, tmp_path, "fp16")
    assert import_dnabert_s(folder, tmp_path, "bf16").dim == 96


# Refused, and nothing run


@pytest.fixture
def track(tmp_path):
    """A file that exists afterwards if a canary sang."""
    path = tmp_path / "sang"
    yield path
    assert not path.exists()


def test_the_canary_sings_when_a_pickle_is_run(tmp_path):
    path, track = tmp_path / "canary.pkl", tmp_path / "sang"
    path.write_bytes(pickle.dumps(Canary(track)))
    pickle.loads(path.read_bytes())
    assert track.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_classifier_that_runs_code_is_refused(tmp_path, track, protocol):
    path = tmp_path / "classifier.pth"
    torch.save({"hidden.weight": Canary(track)}, path, pickle_protocol=protocol)
    with pytest.raises(ModelSetError, match=r"classifier\.pth: .*nothing of it was run"):
        import_classifier(path, tmp_path, INPUTS)


def test_a_canary_inside_the_published_class_is_refused(tmp_path, track, monkeypatch):
    model_class = published_classifier()
    as_in_main({"MLPClassifier": model_class}, monkeypatch)
    model = model_class()
    model.note = Canary(track)
    torch.save(model, tmp_path / "classifier.pth")
    with pytest.raises(ModelSetError, match=r"would call posix\.system"):
        import_classifier(tmp_path / "classifier.pth", tmp_path, INPUTS)


def test_an_esm2_that_runs_code_is_refused(tmp_path, track):
    path = tmp_path / "esm2.pt"
    torch.save({"cfg": {"model": Namespace(note=Canary(track))}, "model": {}}, path)
    with pytest.raises(ModelSetError, match=r"esm2\.pt: refused"):
        import_esm2(path, tmp_path)


def test_a_dnabert_s_that_runs_code_is_refused(parity_dir, tmp_path, track):
    folder = tmp_path / "dnabert_s"
    shutil.copytree(parity_dir / "dnabert_s_tiny", folder)
    torch.save({"weight": Canary(track)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelSetError, match=r"pytorch_model\.bin: refused"):
        import_dnabert_s(folder, tmp_path)


def test_a_bare_pickle_is_refused(tmp_path, track):
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Canary(track)))
    with pytest.raises(ModelSetError, match=r"bare\.pth: cut short, or not a checkpoint"):
        import_classifier(tmp_path / "bare.pth", tmp_path, INPUTS)


def test_an_old_style_checkpoint_is_refused(tmp_path, track):
    path = tmp_path / "old.pth"
    torch.save({"weight": Canary(track)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelSetError, match=r"torch before 1\.6"):
        import_classifier(path, tmp_path, INPUTS)


def test_another_class_is_refused_by_name(tmp_path, monkeypatch):
    other = published_classifier()
    as_in_main({"Backdoor": other}, monkeypatch)
    torch.save(other(), tmp_path / "classifier.pth")
    with pytest.raises(ModelSetError, match=r"would call __main__\.Backdoor"):
        import_classifier(tmp_path / "classifier.pth", tmp_path, INPUTS)


def crafted(path: Path, program: bytes) -> Path:
    """A checkpoint whose pickle is ``program``."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
    return path


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(b"\x80\x02c__main__\nMLPClassifier\nK\x01\x85R.", id="called with arguments"),
        pytest.param(b"\x80\x02c__main__\nMLPClassifier\nK\x01\x85\x81.", id="made with arguments"),
        pytest.param(b"\x80\x02c__main__\nMLPClassifier\n)\x81K\x01b.", id="state no dictionary"),
        pytest.param(b"\x80\x02h\x07.", id="unknown memo"),
        pytest.param(b"\x80\x020.", id="empty stack"),
        pytest.param(b"\x80\x02X\xff\xff", id="cut in a string"),
        pytest.param(b"", id="empty"),
        pytest.param(os.urandom(200), id="noise"),
        pytest.param(b"\x80\x02K\x01.", id="a number"),
        pytest.param(b"\x80\x02c__main__\nMLPClassifier\n)\x81.", id="no state"),
    ],
)
def test_crafted_pickles_are_refused(tmp_path, program):
    path = crafted(tmp_path / "crafted.pth", program)
    with pytest.raises(ModelSetError, match=r"crafted\.pth: "):
        import_classifier(path, tmp_path, INPUTS)


def test_allowed_classes_are_stood_in_for(tmp_path, monkeypatch):
    as_in_main({"MLPClassifier": (model_class := published_classifier())}, monkeypatch)
    torch.save(model_class(), tmp_path / "classifier.pth")
    content = read_checkpoint(tmp_path / "classifier.pth", CLASSIFIER_CLASSES)
    assert not isinstance(content, nn.Module)
    assert not callable(content)
    assert not any(isinstance(part, nn.Module) for part in content.table("_modules").values())


def test_the_stand_ins_are_gone_afterwards(parity_modelset):
    assert parity_modelset.exists()
    allowed = torch.serialization.get_safe_globals()
    assert not [entry for entry in allowed if isinstance(entry, tuple) and entry[0] is Inert]


def test_compressed_entries_are_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x00" * 10_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(ModelSetError, match="compressed entries"):
        import_classifier(path, tmp_path, INPUTS)


# Damaged, or not what it should be


@pytest.mark.parametrize("name", ["classifier.pth", "esm2_tiny.pt"])
@pytest.mark.parametrize("kept", [0, 10, 1000, -100, -1])
def test_a_truncated_file_is_named(parity_dir, tmp_path, name, kept):
    path = tmp_path / name
    path.write_bytes((parity_dir / name).read_bytes()[:kept])
    read = import_esm2 if name.endswith(".pt") else lambda p, f: import_classifier(p, f, INPUTS)
    with pytest.raises(ModelSetError, match=name):
        read(path, tmp_path)


def test_damage_in_the_directory_of_the_file_is_named(parity_dir, tmp_path):
    content = bytearray((parity_dir / "classifier.pth").read_bytes())
    content[-400:-100] = bytes(300)
    (tmp_path / "classifier.pth").write_bytes(content)
    with pytest.raises(ModelSetError, match=r"classifier\.pth: damaged"):
        import_classifier(tmp_path / "classifier.pth", tmp_path, INPUTS)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", os.urandom(5000)])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_other_files_are_named(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelSetError, match=name):
        import_classifier(tmp_path / name, tmp_path, INPUTS)


@pytest.mark.parametrize("name", ["no.pth", "no.safetensors"])
def test_missing_files_are_named(tmp_path, name):
    with pytest.raises(ModelSetError, match=name):
        import_classifier(tmp_path / name, tmp_path, INPUTS)
    with pytest.raises(ModelSetError, match=name):
        import_esm2(tmp_path / name, tmp_path)
    with pytest.raises(ModelSetError, match=name):
        import_dnabert_s(tmp_path / name, tmp_path)


def test_a_classifier_of_other_encoders_is_refused(checkpoints, tmp_path):
    with pytest.raises(ModelSetError, match="takes 176 values, but the two encoders give 3328"):
        import_classifier(checkpoints.classifier, tmp_path, 3328)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("output.weight", torch.zeros(3, 8), "'output.weight' should be"),
        ("output.more", torch.zeros(3), "'output.more' should be absent"),
        ("output.bias", None, "'output.bias' should be"),
        ("hidden.weight", torch.zeros(8), "takes 0 values"),
        ("norm.running_var", torch.full((8,), torch.nan), "not a plain tensor of finite"),
        ("hidden.weight", torch.zeros(1).expand(8, INPUTS), "not a plain tensor of finite"),
        ("hidden.weight", torch.zeros(8, INPUTS).to_sparse(), "not a plain tensor of finite"),
        ("hidden.weight", torch.zeros(8, INPUTS, device="meta"), "not a plain tensor of finite"),
        ("hidden.weight", "text", "not a plain tensor of finite"),
    ],
)
def test_odd_tensors_are_refused(tmp_path, monkeypatch, name, value, message):
    layers = {"hidden": "hidden_layer", "norm": "bn1", "output": "output_layer"}
    weights = dict(published_classifier()().state_dict())
    layer, _, part = name.partition(".")
    weights[f"{layers[layer]}.{part}"] = value
    if value is None:
        del weights[f"{layers[layer]}.{part}"]
    torch.save(weights, tmp_path / "classifier.pth")
    with pytest.raises(ModelSetError, match=message):
        import_classifier(tmp_path / "classifier.pth", tmp_path, INPUTS)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 2},
        {"num_hidden_layers": 4},
        {"num_hidden_layers": None},
        {"hidden_size": 128},
        {"num_attention_heads": 0},
        {"num_attention_heads": 7},
        {"vocab_size": 10**9},
        {"vocab_size": 1000},
        {"intermediate_size": "192"},
        {"model_type": "esm"},
        {"hidden_act": "relu"},
    ],
)
def test_a_dnabert_s_that_contradicts_its_configuration_is_refused(parity_dir, tmp_path, change):
    folder = tmp_path / "dnabert_s"
    shutil.copytree(parity_dir / "dnabert_s_tiny", folder)
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelSetError, match="dnabert_s"):
        import_dnabert_s(folder, tmp_path)


def test_a_tokenizer_of_another_model_is_refused(parity_dir, tmp_path):
    folder = tmp_path / "dnabert_s"
    shutil.copytree(parity_dir / "dnabert_s_tiny", folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelSetError, match=r"tokenizer\.json: not a tokenizer of DNA"):
        import_dnabert_s(folder, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"cfg": {}},
        {"cfg": 1, "model": {}},
        {"cfg": {"model": Namespace(encoder_layers=4)}, "model": {}},
        {"cfg": {"model": Namespace(encoder_layers=10**9)}, "model": {}},
    ],
)
def test_a_pt_file_that_is_no_esm2_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
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
def test_an_index_that_points_elsewhere_is_refused(parity_dir, tmp_path, weight_map):
    folder = tmp_path / "dnabert_s"
    shutil.copytree(parity_dir / "dnabert_s_tiny", folder)
    (folder / "pytorch_model.bin").unlink()
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelSetError, match="does not list files of its folder"):
        import_dnabert_s(folder, tmp_path)


def test_everyone_on_the_machine_can_read_a_model_set(parity_modelset):
    assert {path.stat().st_mode & 0o444 for path in parity_modelset.iterdir()} == {0o444}
