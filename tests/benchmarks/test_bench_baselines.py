import json
import shutil
import sys
from pathlib import Path

import bench_baselines
import pytest
import torch
from bench_baselines import describe_set, gather_as_split, main

from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.modelsets.registry import write_info
from virnuc_dask.pretraining.export import describe, write_weights
from virnuc_dask.pretraining.network import NgramNetwork
from virnuc_dask.pretraining.recipe import PretrainSettings

CONFIG = """
pretrain:
  name: toy
  out: {folder}/toy
  work: {folder}/work
  data: {{markers: toy.fasta}}
  ngrams: {{width: 4, hidden: 8, batch: 64}}
  threads: 1
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "pretrain-toy.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "split.json").write_text("{}")
    return path


@pytest.fixture
def call(config, material, monkeypatch, capsys):
    """Calls the program with the toy material; the last line's JSON."""

    def called(*options):
        monkeypatch.setattr(bench_baselines, "gather", lambda settings, work: material)
        words = ["bench_baselines.py", str(config), *map(str, options)]
        monkeypatch.setattr(sys, "argv", words)
        main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return called


def write_set(config, training_data):
    """A model set that was never trained."""
    torch.manual_seed(1)
    folder = config.parent / "toy"
    network = NgramNetwork(4, 8)
    write_weights(network, folder)
    write_info(folder, describe(network, PretrainSettings.read(config), training_data))
    return folder


def test_compares_model_sets_and_composition(call, config, tmp_path):
    toy = write_set(config, "toy.fasta (SHA-256 5ab1e); seed 1")
    found = call("--sets", toy, "--windows", 600, "--out", tmp_path / "baselines.json")
    assert found == json.loads((tmp_path / "baselines.json").read_text())
    assert found["benchmark"] == "baselines"
    assert list(found["ways"]) == ["toy", "composition"]
    assert found["ways"]["toy"]["trained_from_the_same_files"]
    for length in ("500", "300"):
        overall = found["by_chunk_length"][length]["comparisons"][0]
        assert overall["ways"]["composition"]["auroc"] > 0.8
        assert "auroc_above_first" in overall["ways"]["composition"]
        groups = found["by_chunk_length"][length]["groups"]
        assert {group["genes"] for group in groups.values()} == {18, 36}


def test_says_when_a_model_set_may_know_the_test_genes(config, material, capsys):
    for training_data, is_same in (("toy.fasta (SHA-256 5ab1e)", True), ("another.fasta", False)):
        models = load_modelset(str(write_set(config, training_data)), device="cpu")
        assert describe_set(models, material)["trained_from_the_same_files"] == is_same
        assert ("may know test genes" in capsys.readouterr().err) == (not is_same)


def test_two_model_sets_of_one_name_are_refused(call, config, tmp_path):
    toy = write_set(config, "5ab1e")
    shutil.copytree(toy, tmp_path / "again")
    with pytest.raises(SystemExit, match="a second 'toy'"):
        call("--sets", toy, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "trials"), [("learning_curve", 4), ("ablation", 8)])
def test_trains_short_networks(call, tmp_path, mode, trials):
    found = call(f"--{mode.replace('_', '-')}", "--steps", 2)
    assert (found["benchmark"], found["steps"]) == (mode, 2)
    assert len(found["trials"]) == len({trial["name"] for trial in found["trials"]}) == trials
    assert len(list((tmp_path / "work" / "trials").iterdir())) == trials


def test_without_the_split_of_the_pretraining_nothing_is_measured(config, tmp_path):
    (tmp_path / "work" / "split.json").unlink()
    with pytest.raises(SystemExit, match=r"split.json: is not there"):
        gather_as_split(PretrainSettings.read(config))


def test_another_split_is_refused_and_the_first_one_stays(config, tmp_path, monkeypatch):
    def gather(settings, work):
        (work / "split.json").write_text("another")

    monkeypatch.setattr(bench_baselines, "gather", gather)
    with pytest.raises(SystemExit, match="was made of other genes"):
        gather_as_split(PretrainSettings.read(config))
    assert (tmp_path / "work" / "split.json").read_text() == "{}"


def test_the_plain_bag_has_the_data_and_the_split_of_mini():
    configs = Path(__file__).parents[2] / "configs"
    mini, plain = (
        PretrainSettings.read(configs / f"pretrain-{name}.yaml") for name in ("mini", "plain-bag")
    )
    same = ("data", "split", "chunk_lengths", "seed")
    assert [getattr(mini, name) for name in same] == [getattr(plain, name) for name in same]
    assert mini.work != plain.work
