import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virnuc_dask.checks import build
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.manifest import (
    MANIFEST,
    ClassifierSpec,
    GenesSpec,
    ModelSetInfo,
    find,
    read_info,
    verify,
    write_info,
)

ABSENT = object()
CALIBRATION = {
    "chunk_knots": [[-1, -1], [1, 1]],
    "correlation": 0.5,
    "offset": 0,
    "contig_knots": [[-1, -1], [1, 1]],
    "method": "by hand",
}


@pytest.fixture
def folder(parity_modelset: Path, tmp_path: Path) -> Path:
    """A model set that a test may change."""
    return Path(shutil.copytree(parity_modelset, tmp_path / "modelset"))


@pytest.fixture
def genes_folder(genes_modelset: Path, tmp_path: Path) -> Path:
    """A model set that reads genes, and that a test may change."""
    return Path(shutil.copytree(genes_modelset, tmp_path / "genes"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a manifest."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def put(content: dict[str, Any], place: str, value: object) -> None:
    """Set the value at a dotted place, or take it out."""
    *groups, last = place.split(".")
    for group in groups:
        content = content[group]
    if value is ABSENT:
        del content[last]
    else:
        content[last] = value


def error_of(folder: Path) -> str:
    with pytest.raises(ModelSetError) as caught:
        verify(folder, read_info(folder))
    return str(caught.value)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_model_set_is_found_by_its_folder_and_an_embedded_one_by_its_name(folder, monkeypatch):
    assert find(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert find("modelset") == folder
    folder.rename("mini")
    assert folder.parent not in find("mini").parents


def test_an_unknown_name_is_refused_naming_the_known_ones(tmp_path):
    for name in ("minni", str(tmp_path)):
        with pytest.raises(ModelSetError, match=rf"no model set '{name}'.*mini"):
            find(name)


@pytest.mark.parametrize(
    "name", ["classifier.safetensors", "peptide.safetensors", "tokenizer.json"]
)
def test_one_damaged_byte_of_any_file_is_found(folder, name):
    info = read_info(folder)
    flip(folder / name)
    assert f"{folder / name}: damaged" in error_of(folder)
    verify(folder, info, ["nucleotide.safetensors"])
    (folder / name).unlink()
    assert f"{folder / name}: missing" in error_of(folder)


def test_a_file_without_a_checksum_is_refused(folder):
    edit(folder, lambda content: content["files"].pop("tokenizer.json"))
    assert "no checksum for tokenizer.json" in error_of(folder)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("format", ABSENT),
        ("format", 2),
        ("name", ABSENT),
        ("peptide.dim", ABSENT),
        ("surprise", 1),
        ("nucleotide.trust_remote_code", True),
        ("chunk_lengths", [-5]),
        ("calibration", {"400": CALIBRATION}),
    ],
)
def test_an_incomplete_or_unknown_manifest_is_refused_naming_it(folder, place, value):
    edit(folder, lambda content: put(content, place, value))
    told = "made for another version" if value == 2 else "damaged or incomplete"
    assert f"{folder / MANIFEST}: {told}" in error_of(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe\0"])
def test_a_manifest_that_is_no_json_object_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    assert str(folder / MANIFEST) in error_of(folder)
    (folder / MANIFEST).unlink()
    assert f"{folder}: no {MANIFEST}" in error_of(folder)
    (folder / MANIFEST).mkdir()
    assert MANIFEST in error_of(folder)


def test_a_calibration_is_for_one_chunk_length_and_changes_no_checksum(folder):
    before = read_info(folder)
    assert before.calibration_for(500) is None
    edit(folder, lambda content: content.update(calibration={"500": CALIBRATION}))
    info = read_info(folder)
    assert info.calibration_for(500) == build(Calibration, CALIBRATION, "")
    assert info.calibration_for(300) is None
    assert write_info(folder, info).calibration_for(500) == info.calibration_for(500)
    assert info.checksum == before.checksum


def test_what_only_describes_a_model_set_is_not_in_its_checksum(folder):
    info = read_info(folder)
    texts = dict.fromkeys(("name", "version", "licence", "training_data"), "other")
    described = replace(info, quality={"auroc": 1.0}, chunk_lengths=(300,), **texts)
    assert described.checksum == info.checksum
    assert described.encoders_checksum == info.encoders_checksum


@pytest.mark.parametrize(
    ("name", "of_features"),
    [("nucleotide.safetensors", True), ("tokenizer.json", True), ("classifier.safetensors", False)],
)
def test_other_files_change_the_checksums_of_what_they_decide(folder, name, of_features):
    before = read_info(folder)
    flip(folder / name)
    after = write_info(folder, before)
    assert after.files[name] != before.files[name]
    assert (after.encoders_checksum != before.encoders_checksum) == of_features
    assert after.checksum != before.checksum


def test_a_manifest_comes_back_as_it_was_written_and_reads_frames(folder):
    info = read_info(folder)
    assert (info.reading, info.genes, info.contig_model) == ("frames", None, None)
    before = (folder / MANIFEST).read_bytes()
    assert write_info(folder, info) == info
    assert (folder / MANIFEST).read_bytes() == before
    assert not {"reading", "genes", "contig_model"} & json.loads(before).keys()


def test_a_set_that_reads_genes_says_how(genes_folder):
    info = read_info(genes_folder)
    assert (info.reading, info.reads_genes) == ("genes", True)
    assert info.genes == GenesSpec("pyrodigal-gv", (2, 20, 45), 8000, 2000, 300)
    assert info.evidence == (1, 7)
    assert (info.contig_model.called, info.contig_model.reliable) == (((1, 0.6),), 0.5)
    verify(genes_folder, info)
    assert write_info(genes_folder, info) == info


def test_the_checksums_of_sets_that_read_frames_stay_what_they_were():
    """So that what an earlier version computed is known again: these are what it found."""
    info = ModelSetInfo(
        name="x",
        version="1",
        chunk_lengths=(500,),
        nucleotide=EncoderSpec("dna_ngrams", 6, "a.safetensors", {"width": 2}),
        peptide=EncoderSpec("peptide_ngrams", 2, "b.safetensors", {"width": 2}, "t.json"),
        classifier=ClassifierSpec("c.safetensors", 4),
        licence="",
        training_data="",
        files={f"{name}.safetensors": f"{name}1" for name in "abc"} | {"t.json": "t1"},
    )
    assert info.encoders_checksum.startswith("0f8312cb2d816ba4")
    assert info.checksum.startswith("e08cecdd76803771")


@pytest.mark.parametrize(
    ("place", "value", "features", "scores", "calls"),
    [
        ("genes.piece_nt", 9000, True, True, False),
        ("genes.models", [2], True, True, False),
        ("contig_model.evidence", [1], False, True, True),
        ("contig_model.called", [[1, 0.7]], False, False, True),
    ],
)
def test_a_checksum_covers_what_decides(genes_folder, place, value, features, scores, calls):
    before = read_info(genes_folder)
    edit(genes_folder, lambda content: put(content, place, value))
    after = read_info(genes_folder)
    assert (before.encoders_checksum != after.encoders_checksum) == features
    assert (before.checksum != after.checksum) == scores
    assert (before.calls_checksum != after.calls_checksum) == calls


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("reading", "codons", "reading must be one of frames, genes, not 'codons'"),
        ("reading", "frames", "if it reads genes, only then"),
        ("genes", ABSENT, "says how genes are found"),
        ("contig_model", ABSENT, "needs a contig_model"),
        ("chunk_lengths", [500, 300], "only one chunk length"),
        ("genes.models", [None], r"models\[0\] must be a whole number or a text, not None"),
        ("genes.overlap_nt", 8000, "cannot share 8000 nt of 8000"),
        ("contig_model.evidence", [11], "11 features"),
        ("contig_model.called", [[9, 0.5], [9, 0.6]], "ascending"),
    ],
)
def test_a_manifest_that_reads_genes_in_no_possible_way_is_refused(
    genes_folder, place, value, message
):
    edit(genes_folder, lambda content: put(content, place, value))
    with pytest.raises(ModelSetError, match=message):
        read_info(genes_folder)
