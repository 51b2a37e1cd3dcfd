"""The demo, as ``make demo`` runs it, gives what the README says."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Right would be: lambda virus, all others not. The README says how many are wrong.
MISSED = {
    "Escherichia_phage_lambda": "others",
    "Staphylococcus_aureus_USA300_NODE_139_length_10321_cov_135.789_refined": "virus",
    "Vibrio_cholerae_H1_NODE_680": "virus",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """The run folder, and what was printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-m", "virnuc_dask", "run", str(ROOT / "tests/data/demo.fasta.gz")]
    command += ["-o", str(out), "--config", str(ROOT / "configs/laptop.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_every_contig_is_called_and_the_wrong_calls_are_the_named_ones(demo):
    out, _ = demo
    with (out / "contigs.tsv").open(newline="") as stream:
        calls = {row["record_id"]: row["call"] for row in csv.DictReader(stream, delimiter="\t")}
    assert len(calls) == 13
    right = {name: "virus" if name.endswith("lambda") else "others" for name in calls}
    assert {name: call for name, call in calls.items() if call != right[name]} == MISSED


def test_it_ran_on_dask_workers_that_loaded_mini_once(demo):
    out, _ = demo
    content = json.loads((out / "run.json").read_text())
    assert content["modelset"]["name"] == "mini"
    assert content["summary"]["cluster"]["kind"] == "cpu"
    assert {worker["model_loads"] for worker in content["summary"]["model_loads"]} == {1}


def test_the_summary_says_what_was_found_and_where_it_is(demo):
    out, printed = demo
    words = [line.split()[0] for line in printed.splitlines()]
    for word in ("records", "chunks", "frames", "virus", "seconds", "outputs"):
        assert word in words
    assert f"{out}/" in printed


def test_the_readme_shows_the_scores_of_the_demo(demo):
    _, printed = demo
    start = printed.index("records")
    shown = printed[start : printed.index("seconds")].rstrip()
    assert shown in (ROOT / "README.md").read_text()
