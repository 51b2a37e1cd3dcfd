import io
from pathlib import Path

import pytest
from rich.console import Console

from virnuc_dask.cluster import progress
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.progress import ProgressBar
from virnuc_dask.cluster.run_state import Pace


class Clock:
    """Time that goes by when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Journal:
    """Of a run whose model sets are loaded."""
    monkeypatch.setattr("virnuc_dask.cluster.journal.time.time", clock)
    with Journal.opened(tmp_path / "log") as journal:
        plan = {"partitions": 10, "partitions_done": 0, "chunks_done": 0, "chunks": 4000}
        units = {"parts": "pieces", "scored": "genes", "records": 1, "chunk_length": 500}
        journal.write({"event": "planned", **plan, **units})
        journal.write({"event": "modelset_loading", "modelset": "mini", "precision": "fp32"})
        yield journal


def work(journal: Journal, chunks: int, frames: int) -> None:
    counts = {"partition": 1, "chunks": chunks, "frames": frames, "total_s": 1.0, "worker": "0"}
    journal.write({"event": "partition_done", **counts, "mode": "persistent"})


def test_the_bar_shows_rate_workers_and_end_of_what_the_model_set_reads(journal, clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    journal.workers = 3
    with ProgressBar(console, journal, clock) as bar:
        clock.now += 10
        work(journal, 2900, 50)
        failed = {"partition": 2, "chunks": 100, "reason": "poison"}
        journal.write({"event": "partition_failed", **failed})
        bar.look()
        bar._bar.refresh()
    drawn = console.file.getvalue()
    assert "3000/4000" in drawn
    assert " pieces · 5 genes/s, 3 workers, about 3 s to go" in drawn


def test_a_run_tells_of_itself_once_a_minute(journal, clock):
    bar, told = ProgressBar(None, journal, clock), []
    journal.workers, journal.listener = 4, lambda event, line: told.append(event)
    for _ in range(12):
        clock.now += 10
        work(journal, 26, 12_500)
        bar.look()
    told = [event for event in told if event["event"] == "progress"]
    assert [event["text"] for event in told] == [
        "156 of 4,000 pieces, 1,250 genes/s, 4 workers, about 25 min to go",
        "312 of 4,000 pieces, 1,250 genes/s, 4 workers, about 24 min to go",
    ]
    assert told[1] == told[1] | {"chunks": 312, "workers": 4, "frames_per_s": 1250, "left_s": 1418}


def test_a_run_tells_of_itself_while_nothing_is_done(journal, clock, monkeypatch):
    """By its silence it would be taken for dead."""
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    bar = ProgressBar(None, journal, clock)
    clock.now += 61
    with bar:
        while "progress" not in journal.state.last:
            pass
    text = journal.state.last["progress"]["text"]
    assert text == "0 of 4,000 pieces, 0 genes/s, 1 worker, end not known yet"


def test_the_pace_is_that_of_the_last_minutes():
    pace = Pace(0)
    for minute in range(60):
        pace.add(minute * 60, 60, 600)  # a chunk a second, for an hour
    assert pace.rates(3540) == pytest.approx((1, 10), rel=0.01)
    for minute in range(60, 75):
        pace.add(minute * 60, 600, 6000)  # then ten, for a quarter
    assert pace.rates(74 * 60) == pytest.approx((10, 100), rel=0.01)
    for n in range(100_000):
        pace.add(5000 + n / 100, 1, 10)  # a hundred workers
    assert pace.rates(6000) == pytest.approx((100, 1000), rel=0.01)
    assert len(pace._steps) <= 602, "of a second one is kept"
