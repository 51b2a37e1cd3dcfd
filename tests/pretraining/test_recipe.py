from pathlib import Path

import pytest
import yaml

from virnuc_dask.errors import BadInputError, BadSettingError
from virnuc_dask.pretraining.recipe import NgramRecipe, PretrainSettings

PRESETS = sorted((Path(__file__).parents[2] / "configs").glob("pretrain-*.yaml"))
LEAST = {"name": "toy", "out": "toy", "work": "work", "data": {"markers": "markers.fasta"}}


@pytest.fixture
def read(tmp_path):
    def read(values) -> PretrainSettings:
        path = tmp_path / "pretrain.yaml"
        path.write_text(yaml.safe_dump({"pretrain": values}), encoding="utf-8")
        return PretrainSettings.read(path)

    return read


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load(path):
    settings = PretrainSettings.read(path)
    assert f"pretrain-{settings.name}" == path.stem
    assert Path(settings.out) != Path(settings.work)
    named = [settings.out, settings.work, settings.data.markers or "", *settings.data.genomes]
    assert not any(Path(name).is_absolute() for name in named)


def test_little_has_to_be_said(read):
    settings = read(LEAST)
    assert settings.ngrams == NgramRecipe()
    assert (settings.chunk_lengths, settings.encoders, settings.seed) == ((500, 300), "ngrams", 1)
    assert settings.data.virus == ()


def test_values_of_every_section_are_read(read):
    values = {
        "chunk_lengths": [400],
        "split": {"test": 0.2, "identity": 0.5},
        "ngrams": {"members": 3, "table-spread": 1},
        "data": {"virus": ["a.fa", "b.fa"], "other": ["c.fa"]},
    }
    settings = read(LEAST | values)
    assert settings.chunk_lengths == (400,)
    assert (settings.split.test, settings.split.validation, settings.split.identity) == (
        0.2,
        0.04,
        0.5,
    )
    assert (settings.ngrams.members, settings.ngrams.table_spread) == (3, 1.0)
    assert settings.data.virus == ("a.fa", "b.fa")


@pytest.mark.parametrize("missing", ["name", "out", "work", "data"])
def test_what_must_be_said_is_named(read, missing):
    with pytest.raises(BadSettingError, match=rf"pretrain\.{missing} is missing"):
        read({name: value for name, value in LEAST.items() if name != missing})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lengths": [500]}, r"unknown setting pretrain\.lengths; known: "),
        ({"ngrams": {"epochs": 3}}, r"unknown setting pretrain\.ngrams\.epochs"),
        ({"data": {"viruses": ["a"]}}, r"unknown setting pretrain\.data\.viruses"),
        ({"split": {"train": 0.5}}, r"unknown setting pretrain\.split\.train"),
        ({"name": 3}, r"pretrain\.name must be str, not 3"),
        ({"version": 0.2}, r"pretrain\.version must be str"),
        ({"chunk_lengths": 500}, r"pretrain\.chunk_lengths must be a list of int"),
        ({"chunk_lengths": [500.0]}, r"pretrain\.chunk_lengths must be a list of int"),
        ({"chunk_lengths": [True]}, r"pretrain\.chunk_lengths must be a list of int"),
        ({"data": {"virus": "a.fa", "other": ["b"]}}, r"pretrain\.data\.virus must be a list"),
        ({"data": ["a.fa"]}, r"pretrain\.data must hold settings"),
        ({"ngrams": {"steps": "many"}}, r"pretrain\.ngrams\.steps must be int"),
        ({"ngrams": {"steps": 0}}, r"ngrams\.steps must be at least 1"),
        ({"ngrams": {"dropout": 1}}, r"ngrams\.dropout must be at least 0 and below 1"),
        ({"ngrams": {"noise_share": float("nan")}}, r"ngrams\.noise_share must be"),
        ({"ngrams": {"learning_rate": 0}}, r"ngrams\.learning_rate must be above 0"),
        ({"ngrams": {"weight_decay": -1}}, r"ngrams\.weight_decay"),
        ({"split": {"test": 0.5, "validation": 0.5}}, r"leave nothing to train on"),
        ({"split": {"identity": 30}}, r"split\.identity must be between 0 and 1"),
        ({"split": {"sensitivity": 80}}, r"split\.sensitivity"),
        ({"data": {}}, r"data needs `markers`, or both `virus` and `other`"),
        ({"data": {"virus": ["a"]}}, r"data needs `markers`, or both"),
        ({"data": {"markers": "m", "most_per_genome": 0}}, r"data\.most_per_genome"),
        ({"encoders": "words"}, r"encoders must be one of ngrams, transformers"),
        ({"chunk_lengths": []}, r"chunk_lengths must name"),
        ({"chunk_lengths": [2]}, r"chunk_lengths must name"),
        ({"seed": -1}, r"seed must be at least 0"),
        ({"threads": 0}, r"threads must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_by_name(read, values, message):
    with pytest.raises(BadSettingError, match=message):
        read(LEAST | values)


@pytest.mark.parametrize("content", ["virnuc: {}", "- 1", "pretrain: 3", "pretrain: {a: [}"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadSettingError, match=r"other\.yaml"):
        PretrainSettings.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"none\.yaml: cannot be read"):
        PretrainSettings.read(tmp_path / "none.yaml")
