import json
import sys
from pathlib import Path

import bench_scaling
import pytest
from bench_scaling import chained, main, make_plan

from virnuc_dask.cluster.graph import partition_graph


@pytest.fixture
def call(monkeypatch, capsys):
    # The fresh processes that measure import the program by its name.
    monkeypatch.syspath_prepend(str(Path(bench_scaling.__file__).parent))

    def called(*options):
        monkeypatch.setattr(sys, "argv", ["bench_scaling.py", *map(str, options)])
        main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return called


def test_every_point_is_measured_in_a_process_of_its_own(call, tmp_path):
    file = tmp_path / "scaling.json"
    figures = call("--workers", 1, 3, "--partitions", 12, "--sleep-s", 0.02, "--out", file)
    assert json.loads(file.read_text()) == figures
    one, three = figures["points"]
    assert (one["workers"], three["workers"]) == (1, 3)
    assert one["ideal_s"] == pytest.approx(0.24)
    assert three["ideal_s"] == pytest.approx(0.08)
    for point in (one, three):
        assert point["elapsed_s"] >= point["ideal_s"]
        overhead_s = point["elapsed_s"] - point["ideal_s"]
        assert point["overhead_ms"] == pytest.approx(1000 * overhead_s / 12, abs=0.1)
        assert point["memory_peak_mb"] >= point["memory_started_mb"] > 10


def test_the_chains_are_those_of_a_run(tmp_path):
    (task,) = make_plan(tmp_path, 1).tasks()
    ours = chained(task, 0.0)
    real = partition_graph(task, "plugin")
    assert [key.split("-")[0] for key in sorted(ours.dask)] == [
        key.split("-")[0] for key in sorted(real.dask)
    ]
    assert ours.key.rpartition("-")[0] == real.key.rpartition("-")[0].rpartition("-")[0]
