"""The model card and the figures that are kept, from figures that are all different."""

import json
from dataclasses import replace
from itertools import count

import pytest

from virnuc_dask.pretraining.card import PretrainingReport
from virnuc_dask.pretraining.genes import KINDS, PARTS
from virnuc_dask.pretraining.recipe import PretrainSettings

FIGURES = ("auroc", "average_precision", "f1", "mcc", "recall_at_fpr_0.01", "recall_at_fpr_0.05")


@pytest.fixture
def evaluations():
    """Three evaluations at two lengths; every figure is another number of thousandths."""
    numbers = (number / 1_000 for number in count(101))

    def level():
        return {name: next(numbers) for name in FIGURES} | {"n_virus": 11, "n_others": 12}

    def at(length):
        return {
            "chunk_length": length,
            "levels": {name: level() for name in ("chunks", "contigs")},
            "by_length": {"chunks": [{"chunk": "full"} | level()]},
            "pairs": [
                {
                    "virus": "phages",
                    "others": "prokaryotes",
                    "auroc": next(numbers),
                    "auroc_interval": [next(numbers), next(numbers)],
                    "n_virus": 1_234,
                    "n_others": 5_678,
                }
            ],
            "calibration": {
                "chunks": {"expected_calibration_error": next(numbers)},
                "contigs": {"expected_calibration_error": next(numbers)},
                "false_discovery": [
                    {
                        "prevalence": 0.05,
                        "q_value": 0.01,
                        "false_discovery_rate": next(numbers),
                        "recall": next(numbers),
                    }
                ],
            },
            "groups": [
                {"name": name, "class": label, "chunks": {"share_of_scored": s, "scored": 4_321}}
                for name, label, s in (("phages", "virus", 0.9), ("shuffled", "other", 0.036))
            ],
        }

    return {
        name: {"evaluations": [at(length) for length in (500, 300)]}
        for name in ("genes", "contigs", "noise")
    }


@pytest.fixture
def report(evaluations):
    settings = PretrainSettings.of(
        {"name": "toy", "out": "o", "work": "w", "data": {"markers": "m"}, "licence": "CC0"}
        | {"ngrams": {"members": 3, "width": 7, "hidden": 9}, "split": {"sensitivity": 7.5}},
        "pretrain",
    )
    return PretrainingReport(
        settings=settings,
        counts={
            part: {kind: 1_000 * p + k for k, kind in enumerate(KINDS)}
            for p, part in enumerate(PARTS, start=1)
        },
        left_out={"copy": 4_567},
        sha256={"markers.fasta": "abc"},
        histories=[[{"step": 1, "loss": 0.5}]],
        calibrations={500: "900 contigs", 300: "800 contigs"},
        evaluations=evaluations,
    )


def row_of(card: str, start: str) -> list[list[str]]:
    lines = [line for line in card.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]


def shown(level) -> list[str]:
    return [f"{level[name]:.3f}" for name in FIGURES]


def test_chunks_are_those_of_genes_and_contigs_those_of_contigs(report, evaluations):
    card = report.card()
    for row, (name, level) in {
        "chunks of genes": ("genes", "chunks"),
        "contigs": ("contigs", "contigs"),
    }.items():
        found = [e["levels"][level] for e in evaluations[name]["evaluations"]]
        assert row_of(card, row) == [shown(figures) for figures in found]


def test_groups_are_compared_on_genes(report, evaluations):
    expected = []
    for evaluation in evaluations["genes"]["evaluations"]:
        (pair,) = evaluation["pairs"]
        low, high = pair["auroc_interval"]
        text = f"{pair['auroc']:.3f} ({low:.3f} to {high:.3f})"
        expected.append([text, "1,234", "5,678"])
    assert row_of(report.card(), "phages against prokaryotes") == expected


def test_calibration_is_that_of_contigs(report, evaluations):
    card = report.card()
    for evaluation in evaluations["contigs"]["evaluations"]:
        found = evaluation["calibration"]
        errors = [f"{found[k]['expected_calibration_error']:.3f}" for k in ("chunks", "contigs")]
        (row,) = found["false_discovery"]
        rates = [f"{row['false_discovery_rate']:.3f}", f"{row['recall']:.3f}"]
        rows = row_of(card, f"{evaluation['chunk_length']} nt")
        assert rows == [errors, ["5%", "0.01", *rates]]
    assert "Calibrated on 500 nt: 900 contigs; 300 nt: 800 contigs." in card


def test_noise_is_told_by_kind_without_the_viruses(report):
    card = report.card()
    assert row_of(card, "shuffled, 500 nt") == [["3.6 %", "4,321"]]
    assert row_of(card, "phages, 500 nt") == []


def test_data_and_split_are_told(report):
    card = report.card()
    assert "- `markers.fasta`, SHA-256 `abc`" in card
    assert "6% for the test and 4% for validation" in card
    assert "sensitivity 7.5)" in card
    for p, part in enumerate(PARTS, start=1):
        assert row_of(card, part) == [[f"{1_000 * p + k:,}" for k in range(len(KINDS))]]
    assert "Left out: 4,567 copy." in card
    assert "21 values a table" in card
    assert "here of 27)" in card


def test_figures_that_could_not_be_had_are_dashes(report, evaluations):
    level = evaluations["contigs"]["evaluations"][0]["levels"]["contigs"]
    level |= dict.fromkeys(FIGURES)
    evaluations["contigs"]["evaluations"][0]["calibration"] = {
        "chunks": None,
        "contigs": None,
        "false_discovery": None,
    }
    evaluations["genes"]["evaluations"][0]["pairs"][0]["auroc_interval"] = None
    card = report.card()
    assert row_of(card, "contigs")[0] == ["-"] * 6
    assert row_of(card, "500 nt") == [["-", "-"]]
    assert "None" not in card
    assert report.summary().splitlines()[0].endswith("of contigs -")


def test_the_manifest_keeps_figures_of_chunks_of_genes(report, evaluations):
    first, second = (e["levels"]["chunks"] for e in evaluations["genes"]["evaluations"])
    assert {length: figures["auroc"] for length, figures in report.quality.items()} == {
        "500": first["auroc"],
        "300": second["auroc"],
    }
    assert report.quality["500"]["n_others"] == 12


def test_the_report_is_json(report):
    content = json.loads(json.dumps(report.as_json()))
    assert content["settings"]["ngrams"]["members"] == 3
    assert content["evaluations"] == report.evaluations
    assert content["calibrations"] == {"500": "900 contigs", "300": "800 contigs"}


def test_what_is_sure_is_told_beside_all_of_the_test(report, evaluations):
    assert "sure" not in report.card()
    both = evaluations | {
        f"sure_{name}": json.loads(json.dumps(evaluations[name])) for name in ("genes", "contigs")
    }
    for name in ("sure_genes", "sure_contigs"):
        for evaluation in both[name]["evaluations"]:
            for level in evaluation["levels"].values():
                level["auroc"] = 0.999
            evaluation["pairs"][0]["n_others"] = 77
            evaluation["calibration"]["contigs"]["expected_calibration_error"] = 0.555
    card = replace(report, evaluations=both).card()
    for row in ("chunks of genes, sure", "contigs, sure"):
        assert [cells[0] for cells in row_of(card, row)] == ["0.999", "0.999"]
    assert [cells[2] for cells in row_of(card, "phages against prokaryotes, sure")] == ["77", "77"]
    assert row_of(card, "300 nt, sure")[0][1] == "0.555"
    rows = row_of(card, "contigs")
    assert rows == [shown(e["levels"]["contigs"]) for e in evaluations["contigs"]["evaluations"]]
