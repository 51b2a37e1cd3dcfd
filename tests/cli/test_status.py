"""``status``, for people and for programs."""

import json
import os
from pathlib import Path

import pytest

from virnuc_dask.cli import status


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a small run."""
    from virnuc_dask.config import ClusterSettings, Settings
    from virnuc_dask.run import run

    folder = tmp_path_factory.mktemp("status")
    (folder / "in.fa").write_text(">a\n" + "ACGTTG" * 200 + "\n>b\nACGT\n")
    settings = Settings(cluster=ClusterSettings(kind="none", device="cpu"))
    run(folder / "in.fa", folder / "out", settings=settings)
    return folder / "out"


def state_of(folder: Path) -> dict:
    """Every file with its content and times, those of the folder as well."""
    return {p: (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in folder.rglob("*")}


def test_a_finished_run_is_told_and_nothing_is_written(command, finished):
    before = state_of(finished.parent)
    code, out, err = command("status", finished)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == [
        f"run         {finished}",
        "state       finished",
        f"input       {finished.parent / 'in.fa'}",
    ]
    assert "pieces      2 of 2 (100%)" in lines
    assert "partitions  1 of 1 (100%)" in lines
    assert any(line.startswith("results     0 of 2 records are virus; ") for line in lines)
    assert "pieces, " in next(line for line in lines if "partition 0 done on worker" in line)
    assert state_of(finished.parent) == before


def test_the_same_for_programs(command, finished):
    code, out, _ = command("status", finished, "--json")
    found = json.loads(out)
    assert (code, found["state"], found["chunks"]) == (0, "finished", 2)
    assert found["summary"]["records"] == 2
    code, out, _ = command("status", finished, "--json", "--watch")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["finished"]


def test_a_folder_without_a_run_is_told_in_a_line(command, tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        code, out, err = command("status", place)
        assert (code, out) == (3, "")
        assert err == f"error: {place}: no run here; name the folder given to `run -o`.\n"


@pytest.fixture
def unfinished(finished, tmp_path) -> Path:
    """A run that works, as far as its log tells: this process does it."""
    lines = (finished / "run.log.jsonl").read_text().splitlines(keepends=True)
    assert json.loads(lines[0])["pid"] == os.getpid()
    (tmp_path / "run.log.jsonl").write_text("".join(lines[:-3]))
    (tmp_path / "rest").write_text("".join(lines[-3:]))
    return tmp_path


def test_a_run_is_watched_to_its_end_and_shown_when_there_is_news(command, unfinished, monkeypatch):
    looks = iter(range(4))

    def wait(_: float) -> None:
        if next(looks) == 2:
            with (unfinished / "run.log.jsonl").open("a") as log:
                log.write((unfinished / "rest").read_text())

    monkeypatch.setattr(status.time, "sleep", wait)
    code, out, _ = command("status", unfinished, "--watch")
    states = [line for line in out.splitlines() if line.startswith("state")]
    assert code == 0
    assert states == ["state       running: computing", "state       finished"]


def test_whoever_stops_watching_ends_in_order(command, unfinished, monkeypatch):
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", stop)
    code, out, err = command("status", unfinished, "--watch")
    assert (code, err) == (0, "")
    assert "running: computing" in out
