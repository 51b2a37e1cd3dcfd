"""Files made to harm: each is refused with a clear message, and nothing in it is executed.

What would take for ever ends at the time limit that every test has.
"""

import functools
import json
import operator
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from virnuc_dask.modelsets.manifest import MANIFEST, sha256
from virnuc_dask.tables.parquet import FINGERPRINT, write_table

DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 20
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def canary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> object:
    """A file that is there afterwards if something in a file was executed."""
    track = tmp_path_factory.mktemp("canary") / "was_run"
    monkeypatch.setenv("CANARY", str(track))
    yield track
    assert not track.exists()


class Canary:
    """Makes the file of `canary` when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ('touch "$CANARY"',)


def test_what_is_unpickled_would_leave_a_trace(canary):
    pickle.loads(pickle.dumps(Canary()))
    assert canary.exists()
    canary.unlink()


# Checkpoints


@pytest.fixture
def import_files(command: Command, parity_dir: Path, tmp_path: Path) -> Callable[..., str]:
    """Imports the published files, one of them replaced; what was said when it was refused."""

    def call(**replaced: Path) -> str:
        files = {
            "dnabert_s": parity_dir / "dnabert_s_tiny",
            "esm2": parity_dir / "esm2_tiny.pt",
            "classifier": parity_dir / "classifier.pth",
        } | replaced
        options = [x for k, v in files.items() for x in (f"--{k.replace('_', '-')}", v)]
        made = tmp_path / "made"
        name = ("--name", "x", "--out", made, "--length", 500)
        code, out, err = command("models", "import", *name, *options)
        assert code == 4, out + err
        assert not made.exists()
        assert "Traceback" not in err
        return err

    return call


def zipped(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", bytes(1 << 22))
    return path


@pytest.mark.parametrize("part", ["classifier", "esm2"])
@pytest.mark.parametrize("form", ["torch.save", "pickle", "crafted"])
def test_a_checkpoint_that_calls_something_is_refused(import_files, tmp_path, part, form):
    path = tmp_path / ("evil.pth" if part == "classifier" else "evil.pt")
    content = {"cfg": Canary(), "model": {"hidden.weight": Canary()}}
    if form == "torch.save":
        torch.save(content, path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        zipped(path, b"cposix\nsystem\n(S'touch \"$CANARY\"'\ntR.")
    said = import_files(**{part: path})
    assert path.name in said
    assert "nothing of it was run" in said or "not a checkpoint" in said


def test_a_zip_bomb_is_refused_before_it_unfolds(import_files, tmp_path, monkeypatch):
    path = zipped(tmp_path / "bomb.pth", bytes(1 << 27), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    loaded, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda f, **how: loaded.append(f) or load(f, **how))
    assert "compressed entries" in import_files(classifier=path)
    assert loaded
    assert path not in loaded


def test_tensors_that_overlap_to_claim_more_than_the_file_are_refused(import_files, tmp_path):
    storage = torch.zeros(1 << 18)
    path = tmp_path / "overlap.pth"
    torch.save({f"layer{n}.weight": storage[n : n + (1 << 17)] for n in range(500)}, path)
    assert path.stat().st_size < 2 << 20
    assert "more than it holds" in import_files(classifier=path)


# Model sets


@pytest.fixture
def run_with(command: Command, parity_modelset: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs with a model set of which one file is another; what was said when it was refused."""

    def call(change: Callable[[Path], None]) -> str:
        folder = tmp_path / "evil-set"
        shutil.copytree(parity_modelset, folder)
        change(folder)
        (tmp_path / "in.fa").write_text(f">one\n{DNA}\n")
        way = ("--cluster", "none", "--threads", 1)
        code, out, err = command(
            "run", tmp_path / "in.fa", "-o", tmp_path / "out", "--model", folder, *way
        )
        assert code == 4, out + err
        assert "Traceback" not in err
        return err

    return call


def swap(folder: Path, name: str, content: bytes) -> None:
    """Replace a file, and its checksum too: who makes the set makes the checksums."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = sha256(folder / name)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def lying(header: dict[str, object], said: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if said is None else said) + text + bytes(64)


TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


LIES = {
    "endless": lying({"output.bias": TENSOR}, said=1 << 62),
    "longer": lying({"output.bias": TENSOR}, said=90_000_000),
    "beyond": lying({"output.bias": TENSOR | {"data_offsets": [0, 1 << 40]}}),
    "larger": lying({"output.bias": TENSOR | {"shape": [1 << 40]}}),
    "overflow": lying({"output.bias": TENSOR | {"shape": [1 << 31, 1 << 31, 1 << 31]}}),
    "backwards": lying({"output.bias": TENSOR | {"data_offsets": [16, 0]}}),
    "overlapping": lying({"a": TENSOR, "b": TENSOR}),
    "objects": lying({"output.bias": TENSOR | {"dtype": "OBJECT"}}),
    "lacking": lying({"output.weight": TENSOR}),
}


@pytest.mark.parametrize(
    ("file", "lie"),
    [*(("classifier", lie) for lie in LIES), ("nucleotide", "beyond"), ("nucleotide", "lacking")],
)
def test_a_safetensors_header_that_lies_is_refused(run_with, file, lie):
    said = run_with(lambda folder: swap(folder, f"{file}.safetensors", LIES[lie]))
    assert f"{file}.safetensors" in said


def in_manifest(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return rewrite


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "", "a/../../b", "a\0b"])
def test_a_manifest_that_points_outside_its_folder_is_refused(run_with, name):
    def point(manifest: dict) -> None:
        manifest["files"][name] = manifest["files"].pop("tokenizer.json")
        manifest["nucleotide"]["tokenizer"] = name

    said = run_with(in_manifest(point))
    assert "not a plain file of its folder" in said or "damaged or incomplete" in said


def test_a_manifest_that_names_a_symbolic_link_is_refused(run_with):
    def link(folder: Path) -> None:
        target = folder / "tokenizer.json"
        target.symlink_to(target.rename(folder.parent / "elsewhere.json"))

    assert "'tokenizer.json', not a plain file of its folder" in run_with(link)


DAMAGED, SIZES = "modelset.json: damaged or incomplete", "its sizes in modelset.json are wrong"
CONFIG = {"layers": 10**9, "embed_dim": 1 << 40, "heads": -1, "mlp_dim": 1e300}
PLACES = (("chunk_lengths", 0), ("classifier", "hidden"), ("nucleotide", "dim"))


@pytest.mark.parametrize(
    ("place", "size", "message"),
    [
        *((("nucleotide", "config", name), size, SIZES) for name, size in CONFIG.items()),
        *((place, 1 << bits, DAMAGED) for place in PLACES for bits in (30, 63, 100)),
    ],
)
def test_numbers_without_end_are_refused_before_memory_is_taken(run_with, place, size, message):
    def change(manifest: dict) -> None:
        *above, last = place
        functools.reduce(operator.getitem, above, manifest)[last] = size

    assert message in run_with(in_manifest(change))


def test_a_manifest_without_end_is_refused(run_with):
    deep = '{"format": 1, "name": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert DAMAGED in run_with(lambda folder: (folder / MANIFEST).write_text(deep))


PATTERN = {"Regex": "(A+)+$"}
SPLIT = {"type": "Split", "pattern": PATTERN, "behavior": "Isolated", "invert": False}
BYTE_PAIRS = {
    "type": "BPE",
    "unk_token": "[UNK]",
    "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "A": 3, "AA": 4},
    "merges": [["A", "A"]],
}
NOT_DNA = "tokenizer.json: not a tokenizer of DNA"


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("pre_tokenizer", SPLIT, NOT_DNA),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [SPLIT]}, NOT_DNA),
        ("normalizer", {"type": "Replace", "pattern": PATTERN, "content": ""}, NOT_DNA),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, NOT_DNA),
        ("normalizer", {"type": "Prepend", "prepend": "A" * 100_000}, NOT_DNA),
        ("model", {"type": "Unigram", "unk_id": 9, "vocab": []}, NOT_DNA),
        ("post_processor", {"type": "TemplateProcessing", "single": [], "pair": []}, NOT_DNA),
        ("model", BYTE_PAIRS | {"dropout": 0.5}, NOT_DNA),
        ("model", BYTE_PAIRS | {"continuing_subword_prefix": "long"}, NOT_DNA),
        ("model", BYTE_PAIRS | {"merges": [["A", "Z"]]}, NOT_DNA),
        ("x", "A" * (1 << 26), "too large for a tokenizer of DNA"),
    ],
    ids=range(11),
)
def test_a_tokenizer_with_a_hostile_part_is_refused(run_with, part, value, message):
    def change(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text()) | {part: value}
        swap(folder, "tokenizer.json", json.dumps(content).encode())

    assert message in run_with(change)


def test_tokens_beyond_the_weights_are_refused(run_with):
    def change(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        content["model"]["vocab"]["ACGTACGTACGT"] = 1 << 30
        swap(folder, "tokenizer.json", json.dumps(content).encode())

    assert "more tokens than its weights" in run_with(change)


def test_a_card_cannot_steer_the_terminal(command, parity_modelset, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(parity_modelset, folder)
    (folder / "README.md").write_text("# Fine\n\x1b]0;title\x07\x1b[2J\u202e")
    code, out, _ = command("models", "show", folder)
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert r"\x1b]0;title\x07\x1b[2J\u202e" in out


# Settings


@pytest.mark.parametrize(
    "text",
    [
        "virnuc:\n  model: !!python/object/apply:os.system ['touch \"$CANARY\"']\n",
        "virnuc: !!python/object/new:os.system ['touch \"$CANARY\"']\n",
        "!!python/name:os.system {}\n",
        "virnuc: &a\n  cluster: *a\n",
        "a: &a [1, 1]\nvirnuc: {x: [*a, *a]}\n",
        "virnuc: " + "[" * 20_000,
        "virnuc: " + "{a: " * 20_000,
    ],
    ids=["apply", "new", "name", "loop", "aliases", "lists", "depth"],
)
def test_a_preset_that_is_more_than_values_is_refused(command, tmp_path, text):
    (tmp_path / "in.fa").write_text(">a\nACGT\n")
    (tmp_path / "preset.yaml").write_text(text)
    code, _, err = command(
        "run", tmp_path / "in.fa", "-o", tmp_path / "out", "--config", tmp_path / "preset.yaml"
    )
    assert code == 2
    assert "preset.yaml: not a YAML file" in err
    assert "Traceback" not in err


# Run folders


@pytest.fixture
def run_here(command: Command, parity_modelset: Path, tmp_path: Path) -> Callable[..., Path]:
    """A real run of three records; the run folder."""
    (tmp_path / "in.fa").write_text("".join(f">{n}\n{DNA[n:]}\n" for n in range(3)))

    def call(*options: str) -> Path:
        way = ("--cluster", "none", "--threads", 1, "--model", parity_modelset, *options)
        code, out, err = command("run", tmp_path / "in.fa", "-o", tmp_path / "out", *way)
        assert code == 0, out + err
        return tmp_path / "out"

    return call


NO_PART = {"index": 0, "chunks": 1, "content": "x"}
PLANTED = [NO_PART | {"index": "../../../planted"}, NO_PART | {"chunks": "1"}, []]


@pytest.mark.parametrize("part", PLANTED, ids=str)
def test_a_planted_plan_is_no_plan(run_here, part, tmp_path):
    folder = run_here()
    results = (folder / "prediction_results.txt").read_bytes()
    content = json.loads((folder / "run.json").read_text())
    content["plan"]["partitions"] = [part]
    (folder / "run.json").write_text(json.dumps(content))
    run_here("--resume")
    assert (folder / "prediction_results.txt").read_bytes() == results
    assert {path.name for path in tmp_path.iterdir()} == {"in.fa", "out"}


@pytest.mark.parametrize("table", ["predictions", "features", "partitions"])
@pytest.mark.parametrize("fingerprint", ["", "0" * 32])
def test_a_planted_table_is_made_anew(run_here, table, fingerprint):
    folder = run_here()
    results = (folder / "prediction_results.txt").read_bytes()
    path = folder / table / "part-00000.parquet"
    read = pq.read_table(path)
    planted = read.replace_schema_metadata(None).slice(0, 1)
    write_table(path, planted, fingerprint)
    if table == "features":  # or its predictions are there, and it is not read
        (folder / "predictions" / "part-00000.parquet").unlink()
    run_here("--resume")
    assert (folder / "prediction_results.txt").read_bytes() == results
    assert pq.read_table(path).num_rows == read.num_rows
    assert pq.read_metadata(path).metadata[FINGERPRINT] != fingerprint.encode()
