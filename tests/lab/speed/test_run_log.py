import json

import pytest

from virnuc_dask.lab.speed.run_log import phases

TIME = "2026-01-01T00:00:{:06.3f}+00:00"
EVENTS = [
    (0.0, "run_started", {}),
    (1.0, "modelset_loading", {}),
    (2.0, "modelset_loaded", {"mode": "persistent"}),
    (3.0, "modelset_loaded", {"mode": "persistent"}),
    (6.0, "partition_done", {"mode": "persistent"}),
    (8.0, "partition_done", {"mode": "persistent"}),
    (9.5, "run_done", {}),
]
SUMMARY = {
    "elapsed_s": 9.5,
    "stage_s": {"frames": 1.0, "peptide": 7.0, "finish": 1.5},
    "cluster": {"workers": 2},
}


def written(folder, events):
    lines = [
        json.dumps({"time": TIME.format(t), "event": kind, **more}) for t, kind, more in events
    ]
    (folder / "run.log.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_phases_of_a_run_add_up(tmp_path):
    found = phases(written(tmp_path, EVENTS), SUMMARY)
    assert found["start_s"] == pytest.approx(3.0)
    assert found["working_s"] == pytest.approx(5.0)
    assert found["end_s"] == pytest.approx(1.5)
    assert found["computing_s"] == pytest.approx(8.0)
    assert found["other_s"] == pytest.approx(2 * 5.0 - 8.0)
