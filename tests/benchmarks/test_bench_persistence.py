import json
import sys

import bench_persistence
import pytest


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setattr(bench_persistence, "FIXED", {"cluster.kind": "none"})

    def called(*options):
        short = ("--models", "mini", "--mini-chunks", "40", "--partitions", "4", "--workers", "1")
        monkeypatch.setattr(sys, "argv", ["bench_persistence.py", *short, *options])
        bench_persistence.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return called


def test_both_modes_are_compared_on_the_same_input(call, tmp_path):
    file = tmp_path / "persistence.json"
    figures = call("--out", str(file))
    assert json.loads(file.read_text()) == figures
    (row,) = figures["runs"]
    assert row["same_bytes"] is True
    assert (row["persistent"]["loads"], row["per_partition"]["loads"]) == (1, 4)
    assert all(row[mode]["loading_s"] > 0 for mode in bench_persistence.MODES)
    assert all(0 < row[mode]["loading_share"] < 1 for mode in bench_persistence.MODES)
    first, last = row["persistent"]["memory_bytes"]["client"]
    assert first > 0 < last


def test_modes_that_differ_are_no_comparison(call, monkeypatch):
    monkeypatch.setattr(bench_persistence, "measure", lambda folder, flags: {"digest": str(flags)})
    with pytest.raises(ValueError, match="differ"):
        call()
