"""Dask's own report on the workers of a run."""

import json
import re
from pathlib import Path

import pytest

from virnuc_dask.cluster import performance
from virnuc_dask.cluster.performance import refuse_report
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import BadOutputError, OutputExistsError
from virnuc_dask.run import run

FETCHED = re.compile(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
ON_CPUS = Settings(cluster=ClusterSettings(device="cpu"))


@pytest.fixture(autouse=True)
def _unspoilt_bokeh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that broke in earlier tests of this process leave documents that are gone."""
    monkeypatch.setattr("bokeh.io.doc._PATCHED_CURDOCS", [])


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text(">a\n" + "ACGTTG" * 100 + "\n")
    return path


def events(out: Path, kind: str) -> list[dict]:
    lines = (out / "run.log.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_the_report_may_lie_in_the_run_folder_needs_no_network_and_can_be_made_again(
    client, fasta, tmp_path
):
    out, file = tmp_path / "out", tmp_path / "out" / "report of dask.html"
    for force in (False, True):
        run([fasta], out, settings=ON_CPUS, client=client, performance_report=file, force=force)
        page = file.read_text()
        assert "<title>Dask Performance Report</title>" in page
        assert "Task Stream" in page
        assert "def execute(" in page  # the code that called for it
        assert not FETCHED.search(page)
    assert str(file) in events(out, "note")[-1]["message"]


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_a_report_that_cannot_be_made_fails_no_run(client, fasta, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error("no bokeh there")

    monkeypatch.setattr(performance.performance_report, "__exit__", fail)
    file = tmp_path / "report.html"
    run([fasta], tmp_path / "out", settings=ON_CPUS, client=client, performance_report=file)
    assert not file.exists()
    (warning,) = events(tmp_path / "out", "warning")
    assert "report.html: no performance report could be made: no bokeh" in warning["message"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("in.html", OutputExistsError, "in.html: is no performance report"),
        ("folder.html", OutputExistsError, "is a folder"),
        ("out/contigs.tsv", BadOutputError, "ends in .html"),
        ("out/report.html", BadOutputError, "is the run's own page"),
        ("none/report.html", BadOutputError, "No such file"),
    ],
)
def test_nothing_that_is_read_or_is_no_report_is_replaced(tmp_path, name, error, message):
    (tmp_path / "in.html").write_text(">a\nACGT\n")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(error, match=message):
        refuse_report(tmp_path / name, ClusterSettings(), tmp_path / "out")


def test_without_workers_there_is_nothing_to_report_on(command, fasta, tmp_path):
    way = ("-o", tmp_path / "out", "--performance-report", tmp_path / "report.html")
    code, _, err = command("run", fasta, *way, "--cluster", "none")
    assert code == 2
    assert "--cluster none has none" in err
    assert not (tmp_path / "out").exists()
