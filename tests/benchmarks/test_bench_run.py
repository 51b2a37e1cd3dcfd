import json
import sys

import bench_run
import pytest
from bench_run import dask_share, main

from virnuc_dask.encoders.dnabert_s import DnabertSSizes
from virnuc_dask.encoders.esm2 import Esm2Sizes


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setitem(bench_run.ESM2_SIZES, "8M", Esm2Sizes(layers=1, embed_dim=24, heads=2))
    sizes = DnabertSSizes(layers=1, embed_dim=24, heads=2, mlp_dim=48, vocabulary=64)
    monkeypatch.setitem(bench_run.DNABERT_S_SIZES, "small", sizes)

    def called(*options):
        short = ("--chunks", "60", "--partition-chunks", "20", "--repeats", "1")
        monkeypatch.setattr(sys, "argv", ["bench_run.py", *short, *options])
        main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return called


def test_in_this_process_with_random_weights(call, tmp_path):
    file = tmp_path / "run.json"
    figures = call("--random", "8M", "--ways", "none", "none_per_partition", "--out", str(file))
    assert json.loads(file.read_text()) == figures
    none = figures["none"]
    assert none["frames"] > 20, "half of the demo's chunks have a frame"
    assert none["stage_peptide_s"] > 0
    assert none["working_s"] + none["start_s"] <= none["whole_s"]
    assert none["computing_s"] <= none["working_s"] * 1.05
    assert "ESM-2 8M" in figures["model"]
    assert figures["dask"]["per_partition_over_persistent_none"] > 0


@pytest.mark.slow
def test_on_workers_with_mini(call):
    figures = call("--ways", "none", "one_worker")
    assert figures["model"] == "mini"
    assert figures["none"]["frames"] == figures["one_worker"]["frames"]
    assert set(figures["dask"]) == {
        "one_worker_over_none",
        "one_worker_over_none_computing",
    }


def test_shares_are_medians_of_the_turns_ratios():
    def turns(*working_s):
        return [{"working_s": s, "computing_s": s} for s in working_s]

    measured = {"none": turns(1.0, 2.0, 10.0), "one_worker": turns(1.1, 2.1, 10.2)}
    assert dask_share(measured)["one_worker_over_none"] == 1.05
