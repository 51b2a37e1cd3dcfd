"""The demo, as ``make demo`` runs it, gives what the README says."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The run folder, and what was printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "virnuc_dask", "run", str(ROOT / "tests/data/demo.fasta.gz")]
    command += ["-o", str(out), "--config", str(ROOT / "configs/laptop.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_every_contig_is_called_what_it_is_and_the_prophage_stands_out(demo):
    out, _ = demo
    rows = {row["record_id"]: row for row in rows_of(out / "contigs.tsv")}
    truth = {row["record_id"]: row["truth"] for row in rows_of(ROOT / "tests/data/demo_truth.tsv")}
    assert rows.keys() == truth.keys()
    called = {name for name, row in rows.items() if row["call"] == "virus"}
    assert called == {name for name, what in truth.items() if what == "virus"}
    chance = {name: float(row["probability"]) for name, row in rows.items()}
    (prophage,) = (name for name, what in truth.items() if what == "prophage")
    others = [chance[name] for name, what in truth.items() if what == "others"]
    assert chance[prophage] > 1.5 * max(others)


def test_the_truth_is_printed_beside_each_call(demo):
    out, _ = demo
    program = [sys.executable, str(ROOT / "tests/data/demo_truth.py"), str(out)]
    printed = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    first, *lines = printed.splitlines()
    assert first.split() == ["truth", "call", "probability", "contig"]
    assert len(lines) == 13
    assert lines[0].split()[:2] == ["virus", "virus"]
    assert "lambda" in lines[0]


def test_it_ran_on_workers_that_loaded_mini_once_and_the_readme_shows_what_it_printed(demo):
    out, printed = demo
    content = json.loads((out / "run.json").read_text())
    assert content["modelset"]["name"] == "mini"
    assert content["summary"]["cluster"]["kind"] == "cpu"
    assert {worker["model_loads"] for worker in content["summary"]["model_loads"]} == {1}
    shown = printed[printed.index("records") : printed.index("seconds")].rstrip()
    assert shown in (ROOT / "README.md").read_text()
    assert f"{out}/" in printed
