import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virnuc_dask.checks import build
from virnuc_dask.encoders.encoder import EncoderSpec, Placement, load_encoder
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.manifest import (
    EMBEDDED,
    MANIFEST,
    ClassifierSpec,
    GenesSpec,
    ModelSetInfo,
    find,
    read_info,
    sha256,
    verify,
    write_info,
)

Edit = Callable[[dict[str, Any]], object]

CALIBRATION = {
    "chunk_knots": [[-1, -1], [1, 1]],
    "correlation": 0.5,
    "offset": 0,
    "contig_knots": [[-1, -1], [1, 1]],
    "method": "by hand",
}


@pytest.fixture
def folder(parity_modelset: Path, tmp_path: Path) -> Path:
    """A model set of this test's own."""
    return shutil.copytree(parity_modelset, tmp_path / "modelset")


def edit(folder: Path, change: Edit) -> None:
    """Change the content of a manifest."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def error_of(folder: Path) -> str:
    with pytest.raises(ModelSetError) as caught:
        verify(folder, read_info(folder))
    return str(caught.value)


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_model_set_says_what_it_is(folder):
    info = read_info(folder)
    assert (info.name, info.chunk_lengths, info.feature_dim) == ("parity", (500, 300), 176)
    assert (info.nucleotide.architecture, info.peptide.architecture) == ("dnabert_s", "esm2")
    assert set(info.files) == {
        "classifier.safetensors",
        "nucleotide.safetensors",
        "peptide.safetensors",
        "tokenizer.json",
    }
    verify(folder, info)


def test_a_model_set_is_found_by_its_folder(folder, monkeypatch):
    assert find(str(folder)) == folder
    monkeypatch.chdir(folder.parent)
    assert find("modelset") == folder


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_model_set_is_found_by_its_name_wherever_one_is(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    (tmp_path / name / MANIFEST).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find(name).name == name
    assert tmp_path not in find(name).parents


def test_an_unknown_name_is_refused_naming_the_known_ones(tmp_path):
    for name in ("minni", str(tmp_path)):
        with pytest.raises(ModelSetError, match=rf"no model set '{name}'.*mini"):
            find(name)


@pytest.mark.parametrize(
    "name", ["classifier.safetensors", "peptide.safetensors", "tokenizer.json"]
)
def test_one_damaged_byte_of_any_file_is_found(folder, name):
    flip(folder / name)
    assert f"{folder / name}: damaged" in error_of(folder)


def test_a_missing_file_is_named(folder):
    (folder / "nucleotide.safetensors").unlink()
    assert f"{folder / 'nucleotide.safetensors'}: missing" in error_of(folder)


def test_chosen_files_are_verified_alone(folder):
    flip(folder / "peptide.safetensors")
    verify(folder, read_info(folder), ["classifier.safetensors"])
    with pytest.raises(ModelSetError, match=r"peptide\.safetensors"):
        verify(folder, read_info(folder), ["peptide.safetensors"])


@pytest.mark.parametrize("outside", ["../x.safetensors", "a/../../x", "/etc/hostname"])
@pytest.mark.parametrize("part", ["classifier", "peptide", "nucleotide"])
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(folder, outside, part):
    def point_outside(content: dict[str, Any]) -> None:
        content[part]["file"] = outside
        content["files"][outside] = "0" * 64

    edit(folder, point_outside)
    assert repr(outside) in error_of(folder)


def test_a_symbolic_link_is_refused(folder, tmp_path):
    path = folder / "classifier.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert "'classifier.safetensors', not a plain file" in error_of(folder)


@pytest.mark.parametrize(
    "name", ["classifier.safetensors", "nucleotide.safetensors", "tokenizer.json"]
)
def test_a_file_without_a_checksum_is_refused(folder, name):
    edit(folder, lambda content: content["files"].pop(name))
    assert f"no checksum for {name}" in error_of(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_of_the_format_is_refused(folder, version):
    edit(folder, lambda content: content.update(format=version))
    assert "made for another version" in error_of(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("format"),
        lambda content: content.pop("name"),
        lambda content: content.pop("classifier"),
        lambda content: content["peptide"].pop("dim"),
        lambda content: content.update(surprise=1),
        lambda content: content["nucleotide"].update(trust_remote_code=True),
        lambda content: content.update(chunk_lengths="long"),
        lambda content: content.update(chunk_lengths=None),
        lambda content: content.update(peptide=[]),
        lambda content: content.update(files=3),
    ],
)
def test_an_incomplete_or_unknown_manifest_is_refused_naming_it(folder, change):
    edit(folder, change)
    assert f"{folder / MANIFEST}: damaged or incomplete" in error_of(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(files=[]),
        lambda content: content.update(chunk_lengths=[]),
        lambda content: content.update(chunk_lengths=[-5]),
        lambda content: content["peptide"].update(dim="80"),
        lambda content: content["peptide"].update(architecture=[]),
        lambda content: content["nucleotide"].update(tokenizer=5),
        lambda content: content["nucleotide"].update(config="x"),
        lambda content: content["classifier"].update(hidden="512"),
        lambda content: content["classifier"].update(hidden=-1),
        lambda content: content["classifier"].update(architecture="transformer"),
        lambda content: content.update(calibration={"contig_threshold": 0.5, "method": "none"}),
        lambda content: content.update(calibration={"500": {"method": "none"}}),
        lambda content: content.update(calibration={"400": CALIBRATION}),
        lambda content: content.update(calibration={"500": {**CALIBRATION, "offset": 10**400}}),
        lambda content: content.update(calibration=[]),
    ],
)
def test_values_of_the_wrong_kind_are_refused_naming_the_manifest(folder, change):
    edit(folder, change)
    assert MANIFEST in error_of(folder)


def test_a_calibration_is_for_one_chunk_length(folder):
    assert read_info(folder).calibration_for(500) is None
    edit(folder, lambda content: content.update(calibration={"500": CALIBRATION}))
    info = read_info(folder)
    assert info.calibration_for(500) == build(Calibration, CALIBRATION, "")
    assert info.calibration_for(300) is None
    assert write_info(folder, info).calibration_for(500) == build(Calibration, CALIBRATION, "")


def test_a_calibration_changes_no_checksum(folder):
    before = read_info(folder)
    edit(folder, lambda content: content.update(calibration={"500": CALIBRATION}))
    assert read_info(folder).checksum == before.checksum


def test_sizes_that_are_no_numbers_are_refused_when_loading(folder):
    edit(folder, lambda content: content["peptide"]["config"].update(layers="x"))
    info = read_info(folder)
    with pytest.raises(ModelSetError, match=r"config\.layers must be a whole number .* not 'x'"):
        load_encoder(info.peptide, folder, Placement())


def test_a_file_in_a_folder_inside_is_refused(folder):
    """A plain name cannot lead anywhere, whatever is linked to what."""
    edit(folder, lambda content: content["classifier"].update(file="sub/c.safetensors"))
    edit(folder, lambda content: content["files"].update({"sub/c.safetensors": "0" * 64}))
    assert "not a plain file of its folder" in error_of(folder)


def test_a_manifest_that_is_a_folder_is_refused(folder):
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    assert MANIFEST in error_of(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe\0"])
def test_a_manifest_that_is_no_json_object_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    assert str(folder / MANIFEST) in error_of(folder)


def test_a_folder_without_a_manifest_is_no_model_set(folder):
    (folder / MANIFEST).unlink()
    assert f"{folder}: no {MANIFEST}" in error_of(folder)


def test_what_only_describes_a_model_set_is_not_in_its_checksum(folder):
    info = read_info(folder)
    described = replace(
        info,
        name="renamed",
        version="9",
        licence="other",
        training_data="other",
        quality={"auroc": 1.0},
        chunk_lengths=(300,),
    )
    assert described.checksum == info.checksum
    assert described.encoders_checksum == info.encoders_checksum


@pytest.mark.parametrize(
    "name", ["nucleotide.safetensors", "peptide.safetensors", "tokenizer.json"]
)
def test_other_encoder_files_change_both_checksums(folder, name):
    before = read_info(folder)
    flip(folder / name)
    after = write_info(folder, before)
    assert after.files[name] == sha256(folder / name) != before.files[name]
    assert after.encoders_checksum != before.encoders_checksum
    assert after.checksum != before.checksum


def test_another_classifier_changes_only_the_checksum_of_the_scores(folder):
    before = read_info(folder)
    flip(folder / "classifier.safetensors")
    after = write_info(folder, before)
    assert after.encoders_checksum == before.encoders_checksum
    assert after.checksum != before.checksum


def test_other_sizes_change_the_checksum(folder):
    info = read_info(folder)
    config = {**info.peptide.config, "token_dropout": False}
    other = replace(info, peptide=replace(info.peptide, config=config))
    assert other.encoders_checksum != info.encoders_checksum


def test_a_manifest_comes_back_as_it_was_written(folder):
    info = read_info(folder)
    before = (folder / MANIFEST).read_bytes()
    assert write_info(folder, info) == info
    assert (folder / MANIFEST).read_bytes() == before


def test_a_files_checksum_is_its_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "x") == known


@pytest.fixture
def genes_folder(genes_modelset: Path, tmp_path: Path) -> Path:
    """A model set that reads genes, of this test's own."""
    return Path(shutil.copytree(genes_modelset, tmp_path / "genes"))


def test_a_set_that_reads_genes_says_how(genes_folder):
    info = read_info(genes_folder)
    assert (info.reading, info.reads_genes) == ("genes", True)
    assert info.genes == GenesSpec("pyrodigal-gv", (2, 20, 45), 8000, 2000, 300)
    assert info.evidence == (1, 7)
    assert (info.contig_model.called, info.contig_model.reliable) == (((1, 0.6),), 0.5)
    verify(genes_folder, info)
    assert write_info(genes_folder, info) == info


def test_other_sets_read_frames_and_are_written_as_ever(folder):
    info = read_info(folder)
    assert (info.reading, info.genes, info.contig_model) == ("frames", None, None)
    content = json.loads((folder / MANIFEST).read_text())
    write_info(folder, info)
    assert json.loads((folder / MANIFEST).read_text()) == content
    assert not {"reading", "genes", "contig_model"} & content.keys()


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
    ("change", "features", "scores", "calls"),
    [
        (lambda content: content["genes"].update(piece_nt=9000), True, True, False),
        (lambda content: content["genes"].update(models=[2]), True, True, False),
        (lambda content: content["contig_model"].update(evidence=[1]), False, True, True),
        (lambda content: content["contig_model"].update(called=[[1, 0.7]]), False, False, True),
        (
            lambda content: content["files"].update({"contig_model.safetensors": "0"}),
            *(False, False, True),
        ),
    ],
)
def test_a_checksum_covers_what_decides(genes_folder, change, features, scores, calls):
    before = read_info(genes_folder)
    edit(genes_folder, change)
    after = read_info(genes_folder)
    assert (before.encoders_checksum != after.encoders_checksum) == features
    assert (before.checksum != after.checksum) == scores
    assert (before.calls_checksum != after.calls_checksum) == calls


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content.update(reading="codons"),
            "reading must be one of frames, genes, not 'codons'",
        ),
        (lambda content: content.update(reading="frames"), "if it reads genes, only then"),
        (lambda content: content.pop("reading"), "if it reads genes, only then"),
        (lambda content: content.pop("genes"), "says how genes are found"),
        (lambda content: content.pop("contig_model"), "needs a contig_model"),
        (lambda content: content.update(chunk_lengths=[500, 300]), "only one chunk length"),
        (lambda content: content["genes"].update(models="2"), "must be a list"),
        (
            lambda content: content["genes"].update(models=[None]),
            r"models\[0\] must be a whole number or a text, not None",
        ),
        (lambda content: content["genes"].update(caller=1), "must be a text"),
        (
            lambda content: content["genes"].update(overlap_nt=7),
            "overlap_nt must be a whole number .* multiple of 2, not 7",
        ),
        (lambda content: content["genes"].update(overlap_nt=8000), "cannot share 8000 nt of 8000"),
        (lambda content: content["genes"].update(piece_nt=1 << 40), "of at most 67108864, not"),
        (lambda content: content["genes"].update(piece_nt=True), "piece_nt must be a whole number"),
        (lambda content: content["genes"].update(colour=1), "colour"),
        (lambda content: content["contig_model"].update(evidence=[8]), "8 features"),
        (
            lambda content: content["contig_model"].update(evidence=[-1]),
            r"evidence\[0\] must be a whole number of at least 0",
        ),
        (lambda content: content["contig_model"].update(file=1), "must be a text"),
        (
            lambda content: content["contig_model"].update(called=[[1, 2]]),
            r"called\[0\]\[1\] must be a number of at least 0 and of at most 1, not 2",
        ),
        (lambda content: content["contig_model"].update(called=[[9, 0.5], [9, 0.6]]), "ascending"),
        (lambda content: content["contig_model"].update(called=[[9]]), "damaged"),
        (
            lambda content: content["contig_model"].update(reliable=None),
            "reliable must be a number .* not None",
        ),
        (lambda content: content["files"].pop("contig_model.safetensors"), "no checksum for"),
        (lambda content: content.update(genes=[]), "damaged"),
    ],
)
def test_a_manifest_that_reads_genes_in_no_possible_way_is_refused(genes_folder, change, message):
    edit(genes_folder, change)
    with pytest.raises(ModelSetError, match=message):
        read_info(genes_folder)
