"""The embedded model set is whole, and as good as its card and the kept report say."""

import json
from pathlib import Path

import numpy as np
import pytest
from virnuc_dask.pretraining.recipe import PretrainSettings

from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.modelsets.registry import find, read_info, verify, write_info

ROOT = Path(__file__).parents[2]
MOST_BYTES = 30_000_000


@pytest.fixture(scope="module")
def folder():
    return find("mini")


@pytest.fixture(scope="module")
def info(folder):
    return read_info(folder)


@pytest.fixture(scope="module")
def report():
    path = ROOT / "benchmarks/results/0.1.0/mini-quality.json"
    return json.loads(path.read_text(encoding="utf-8"))


def evaluations(report, name):
    return {e["chunk_length"]: e for e in report["evaluations"][name]["evaluations"]}


def test_is_whole_and_small(folder, info):
    verify(folder, info)
    assert info.name == "mini"
    assert info.chunk_lengths == (500, 300)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES


def test_embeddings_have_their_size_and_are_finite(folder, info):
    for spec, texts in (
        (info.nucleotide, ["ATGGCCAAATTTGGGCCC", "", "NNNN"]),
        (info.peptide, ["MAKFGP", "", "M"]),
    ):
        embedded = load_encoder(spec, folder, Placement()).embed(texts)
        assert embedded.shape == (3, spec.dim)
        assert np.isfinite(embedded).all()
        assert embedded[0].any()
        assert not embedded[1:].any()


def test_is_calibrated_at_both_lengths(info):
    for length in info.chunk_lengths:
        calibration = info.calibration_for(length)
        assert calibration.contig_knots[0][1] < 0 < calibration.contig_knots[-1][1]


def test_the_report_is_about_these_weights_and_this_calibration(info, report):
    for name in report["evaluations"]:
        for evaluation in evaluations(report, name).values():
            assert evaluation["modelset"]["checksum"] == info.checksum
            assert evaluation["modelset"]["files"] == dict(info.files)
    for length, method in report["calibrations"].items():
        assert info.calibration_for(int(length)).method == method
    for length, figures in info.quality.items():
        measured = evaluations(report, "genes")[int(length)]["levels"]["chunks"]
        assert figures.items() <= measured.items()


def test_the_settings_kept_are_those_that_made_it(report):
    settings = PretrainSettings.read(ROOT / "configs/pretrain-mini.yaml")
    made_with = report["settings"]
    assert made_with["ngrams"]["members"] == settings.ngrams.members
    for name in ("ngrams", "data", "split"):
        kept = {k: getattr(getattr(settings, name), k) for k in made_with[name]}
        assert json.loads(json.dumps(kept)) == made_with[name]
    assert made_with["seed"] == settings.seed


def test_the_card_states_the_measured_figures(folder, report):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("genes", "contigs"):
        for evaluation in evaluations(report, name).values():
            level = "chunks" if name == "genes" else "contigs"
            assert f"{evaluation['levels'][level]['auroc']:.3f}" in card
            for pair in evaluation["pairs"] if name == "genes" else ():
                assert f"{pair['auroc']:.3f}" in card


def test_writing_the_manifest_again_changes_nothing(folder, info, tmp_path):
    copy = tmp_path / "mini"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert write_info(copy, info) == info
    assert (copy / "modelset.json").read_bytes() == (folder / "modelset.json").read_bytes()
