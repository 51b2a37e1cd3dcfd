"""Probabilities, q-values and --fdr, from a calibrated model set to the files of a run."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_dask import Settings, load_settings, run
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.manifest import read_info, write_info
from virnuc_dask.run import Run, predict

# Made by hand for the tiny transformers, whose margins lie near 0.
CALIBRATION = Calibration(((-1.0, -4.0), (1.0, 4.0)), 0.3, 0.0, ((-8.0, -8.0), (8.0, 8.0)), "made")


@pytest.fixture(scope="module")
def settings_with(parity_modelset, tmp_path_factory) -> Callable[..., Settings]:
    """Settings of a calibrated model set."""
    folder = Path(shutil.copytree(parity_modelset, tmp_path_factory.mktemp("calibrated") / "set"))
    write_info(folder, replace(read_info(folder), calibration={"500": CALIBRATION}))

    def settings(**flags: object) -> Settings:
        way = {"model": str(folder), "cluster.kind": "none", "cluster.threads": 1}
        return load_settings(flags=way | flags)

    return settings


@pytest.fixture(scope="module")
def plain(parity_dir, settings_with, tmp_path_factory) -> Run:
    """Called by probability."""
    out = tmp_path_factory.mktemp("plain") / "out"
    return run([parity_dir / "input.fa"], out, settings=settings_with())


@pytest.fixture
def copy(plain, tmp_path) -> Path:
    return Path(shutil.copytree(plain.folder, tmp_path / "out"))


def rows_of(out: Path) -> list[dict[str, str]]:
    header, *lines = (out / "contigs.tsv").read_text().splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def names_in(out: Path) -> list[str]:
    lines = (out / "virus.fasta").read_text().splitlines()
    return [line[1:].split()[0] for line in lines if line.startswith(">")]


def test_every_scored_record_has_a_probability_that_decides_its_call(plain):
    rows = rows_of(plain.folder)
    scored = [row for row in rows if row["call"] != "unscored"]
    assert {row["call"] for row in scored} == {"virus", "others"}
    for row in scored:
        assert (row["call"] == "virus") == (float(row["probability"]) >= 0.5)
        assert 0 <= float(row["q_value"]) <= 1
    for row in rows:
        if row["call"] == "unscored":
            assert (row["score"], row["probability"], row["q_value"]) == ("", "", "")
    assert names_in(plain.folder) == [row["record_id"] for row in rows if row["call"] == "virus"]
    assert (plain.summary["called_by"], plain.summary["fdr"]) == ("probability >= 0.5", None)
    chances = [contig["probability"] for contig in plain.summary["highest"]]
    assert chances == sorted(chances, reverse=True)


@pytest.mark.parametrize("way", ["new", "resume", "predict"])
def test_a_false_discovery_rate_decides_the_calls_whatever_the_way(
    parity_dir, settings_with, plain, copy, tmp_path, way
):
    q_values = sorted(float(row["q_value"]) for row in rows_of(copy) if row["q_value"])
    fdr = (q_values[0] + q_values[-1]) / 2
    settings, inputs = settings_with(fdr=fdr), [parity_dir / "input.fa"]
    if way == "new":
        done = run(inputs, tmp_path / "new", settings=settings)
    elif way == "resume":
        done = run(inputs, copy, settings=settings, resume=True)
        assert done.summary["partitions"]["computed"] == 0
    else:
        done = predict(copy, settings=settings)
    rows = rows_of(done.folder)
    called = [row["record_id"] for row in rows if row["q_value"] and float(row["q_value"]) <= fdr]
    assert [row["record_id"] for row in rows if row["call"] == "virus"] == called
    assert names_in(done.folder) == called
    assert 0 < len(called) < len(q_values)
    told = json.loads((done.folder / "run.json").read_text())["summary"]
    assert told["fdr"] == fdr
    assert told["called_by"] == f"q_value <= {fdr:g}"
    assert told["prevalence"] == plain.summary["prevalence"]
    assert told["contigs"]["virus"] == len(called)
    for name in ("chunks.parquet", "prediction_results.txt", "prediction_results_highestscore.csv"):
        assert (done.folder / name).read_bytes() == (plain.folder / name).read_bytes()


def test_another_chunk_length_has_no_calibration_and_is_called_by_score(
    parity_dir, settings_with, tmp_path
):
    done = run([parity_dir / "input.fa"], tmp_path / "out", settings=settings_with(length=300))
    assert done.summary["called_by"] == "score >= 0.5"
    assert {row["probability"] + row["q_value"] for row in rows_of(done.folder)} == {""}
