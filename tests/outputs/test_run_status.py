"""What `status` tells of a run, from its folder alone."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from virnuc_dask.cluster.journal import Journal, this_place
from virnuc_dask.outputs.run_status import RunStatus
from virnuc_dask.tables.folder import RunFolder

START = 1_800_000_000.0
HERE = {**this_place(), "pid": os.getpid()}
THERE = {"host": "node7", "pid": 1}
NOW = datetime.now(UTC).timestamp()


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def begun(at: float, **process: object) -> list[tuple]:
    """A run of 40 chunks in 4 partitions, up to its model sets."""
    counts = {"records": 3, "chunks": 40, "chunk_length": 500}
    done = {"partitions": 4, "partitions_done": 1, "chunks_done": 10}
    return [
        (at, "run_started", {"inputs": "in.fa", "out": "out", **process}),
        (at + 1, "planned", counts | done),
        (at + 2, "cluster", {"text": "2 CPU workers", "workers": 2}),
        (at + 3, "modelset_loading", {"modelset": "mini", "precision": "fp32"}),
        (at + 10, "modelset_loaded", {"modelset": "mini", "worker": "0"}),
    ]


def done(at: float) -> tuple:
    event = {"partition": 1, "chunks": 10, "frames": 500, "worker": "0", "total_s": 1, "mode": "x"}
    return at, "partition_done", event


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "out").mkdir()
    return RunFolder(tmp_path / "out")


@pytest.fixture
def status(folder):
    """The status of a folder with these events in its log."""

    def of(*events: tuple, now: float = NOW) -> dict:
        lines = (json.dumps({"time": stamp(at), "event": k, **more}) for at, k, more in events)
        folder.log.write_text("".join(f"{line}\n" for line in lines))
        found = RunStatus(folder)
        found.read()
        return found.as_json(now)

    return of


def test_counts_rate_and_end_are_those_of_the_last_run(status):
    before = [*begun(START - 900, **THERE), done(START - 800), (START - 700, "run_done", {})]
    found = status(*before, *begun(START, **THERE), done(START + 20), now=START + 20)
    assert (found["state"], found["phase"]) == ("running", "computing")
    assert (found["chunks"], found["chunks_planned"]) == (20, 40)
    assert (found["partitions"], found["partitions_planned"], found["frames"]) == (2, 4, 500)
    assert (found["chunks_per_s"], found["frames_per_s"], found["left_s"]) == (1, 50, 20)
    assert found["workers"] == 2


def test_workers_are_those_that_the_run_counted_last(status):
    told = (START + 80, "progress", {"text": "", "workers": 1})
    assert status(*begun(START, **THERE), told, now=START + 90)["workers"] == 1


@pytest.mark.parametrize(
    ("events", "phase"), [(1, "planning"), (3, "starting workers"), (4, "loading the model set")]
)
def test_what_the_run_does_now_is_told(status, events, phase):
    assert status(*begun(START, **THERE)[:events], now=START + 5)["phase"] == phase


def test_when_all_is_computed_results_are_written(status):
    parts = [done(START + 20 + n) for n in range(3)]
    assert status(*begun(START, **THERE), *parts, now=START + 30)["phase"] == "writing results"


@pytest.mark.parametrize(
    ("kind", "more", "state"),
    [
        ("run_done", {"elapsed_s": 1}, "finished"),
        ("run_failed", {"reason": "why"}, "failed"),
        ("run_interrupted", {}, "interrupted"),
    ],
)
def test_a_run_that_took_leave_has_ended_however_long_ago(status, kind, more, state):
    found = status(*begun(START, **HERE), done(START + 20), (START + 25, kind, more))
    assert (found["state"], found["phase"], found["left_s"]) == (state, None, None)
    assert found["frames_per_s"] == 50


def test_a_finished_run_stays_finished_when_what_came_after_it_was_refused(folder, status):
    folder.run_json.write_text('{"summary": {"records": 3}}')
    refused = [(START, "run_started", {}), (START + 1, "run_failed", {"reason": "other encoders"})]
    assert status(*refused)["state"] == "finished"
    folder.run_json.write_text('{"summary": null}')  # the run that failed was under way
    assert status(*refused)["state"] == "failed"


@pytest.fixture
def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_process_of_this_machine_is_looked_at(status, dead_pid):
    """However long it is silent, and also if its number is another process's now."""
    assert status(*begun(NOW, **HERE), now=NOW + 90_000)["state"] == "running"
    assert status(*begun(NOW, **(HERE | {"pid": dead_pid})))["state"] == "died"
    assert status(*begun(START - 9e8, **HERE))["state"] == "died"


def test_a_container_on_this_machine_is_another_place(status, dead_pid):
    process = HERE | {"processes": "pid:[1]", "pid": dead_pid}
    assert status(*begun(NOW, **process))["state"] == "running"


def test_of_another_machine_only_silence_is_known(status):
    assert status(*begun(START, **THERE), now=START + 200)["state"] == "running"
    found = status(*begun(START, **THERE), now=START + 2000)
    assert (found["state"], found["silent_s"]) == ("silent", 1990)


def test_failures_are_counted_by_their_reason(status):
    failed = [
        (START + 30, "partition_failed", {"partition": 2, "chunks": n, "reason": reason})
        for n, reason in ((1, "no memory"), (3, "a bad kernel"), (4, "no memory"))
    ]
    before = [*begun(START - 900, **THERE), failed[0]]
    found = status(*before, *begun(START, **THERE), *failed, (START + 40, "run_done", {}))
    assert found["failures"] == {"no memory": 5, "a bad kernel": 3}
    assert found["chunks_failed"] == 8


def test_only_what_is_new_in_the_log_is_read_and_half_and_foreign_lines_do_no_harm(folder, status):
    status(*begun(START, **THERE))
    found = RunStatus(folder)
    found.read()
    line = json.dumps({"time": stamp(START + 20), "event": "partition_done", **done(0)[2]})
    for piece in (line[:9], line[9:] + "\n", "[]\n", '{"event": 3}\n', "noise\n"):
        with folder.log.open("a") as log:
            log.write(piece)
        found.read()
        found.read()
    assert found.as_json()["partitions"] == 2
    folder.log.write_text("")
    found.read()
    assert found.as_json()["partitions"] == 2


def test_a_log_tells_how_its_run_ended(folder):
    for error in (ValueError("odd"), KeyboardInterrupt(), SystemExit(143)):
        with (
            pytest.raises(type(error)),
            Journal.opened(folder.log, inputs="in.fa") as journal,
            journal.telling_end(),  # around an inner step, too: it is told once
        ):
            raise error
    events = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [event["event"] for event in events] == [
        *("run_started", "run_failed"),
        *("run_started", "run_interrupted", "run_started", "run_interrupted"),
    ]
    assert events[0] == events[0] | HERE
    assert events[1]["reason"] == "ValueError: odd"
