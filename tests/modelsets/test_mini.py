"""The embedded model set is whole, reads genes, and its card and manifest tell the same figures."""

import json
from pathlib import Path

import pytest

from virnuc_dask.lab.recipe import read_recipe
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import GENES, find, read_info, verify

ROOT = Path(__file__).parents[2]
MOST_BYTES = 20_000_000


@pytest.fixture(scope="module")
def folder():
    return find("mini")


@pytest.fixture(scope="module")
def info(folder):
    return read_info(folder)


@pytest.fixture(scope="module")
def figures():
    path = ROOT / "benchmarks/results/0.2.0/mini-quality.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_is_whole_and_small(folder, info):
    verify(folder, info)
    assert info.name == "mini"
    assert info.reading == GENES
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_calls_genes_and_frames_and_knows_regions(folder, info):
    model = ContigModel.load(folder / info.contig_model.file)
    assert set(model.readers) == {"genes", "frames"}
    assert model.regions is not None
    assert model.regions.false_rates.size
    chances = [chance for _, chance in info.contig_model.called]
    assert chances == sorted(chances, reverse=True)


def test_the_manifest_has_the_measured_figures(info, figures):
    measured = figures["genes, new groups"]["by_length"]
    assert info.quality
    for length, told in info.quality.items():
        assert told == measured[length]["phage against prokaryote"]


def test_the_card_states_the_measured_figures(folder, figures):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for of in figures.values():
        for measured in of.get("by_length", {}).values():
            for pair, found in measured.items():
                if " against " in pair:
                    assert f"{found['auroc']:.3f}" in card


def test_the_recipe_is_the_one_that_made_it(info):
    recipe = read_recipe(ROOT / "configs/mini.yaml")
    assert recipe.version == info.version
    assert recipe.fragments.models == info.genes.models
    for digest in recipe.data.sha256:
        assert digest in info.training_data
