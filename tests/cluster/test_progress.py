import io
import threading

import pytest
from rich.console import Console

from virnuc_dask.cluster import progress
from virnuc_dask.cluster.progress import Pace, ProgressBar, duration
from virnuc_dask.modelsets.manifest import Units


class Clock:
    """Time that goes by when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[dict]:
    return []


@pytest.mark.parametrize("units", [Units(), Units("pieces", "genes")])
def test_the_bar_shows_rate_workers_and_end_of_what_the_model_set_reads(units, clock):
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with ProgressBar(console, 9, 4, units, workers=lambda: 3, clock=clock) as bar:
        clock.now += 10
        bar.advance(3, 50)
        bar._bar.refresh()
    drawn = console.file.getvalue()
    assert "7/9" in drawn
    assert f" {units.parts} · 5 {units.scored}/s, 3 workers, about 7 s to go" in drawn


def test_a_run_tells_of_itself_once_a_minute(clock, told):
    bar = ProgressBar(None, 4000, 0, tell=told.append, workers=lambda: 4, clock=clock)
    for _ in range(12):
        clock.now += 10
        bar.advance(26, 12_500)
    assert [event["text"] for event in told] == [
        "156 of 4,000 chunks, 1,250 frames/s, 4 workers, about 25 min to go",
        "312 of 4,000 chunks, 1,250 frames/s, 4 workers, about 24 min to go",
    ]
    assert told[1] == told[1] | {"chunks": 312, "workers": 4, "frames_per_s": 1250, "left_s": 1418}


def test_a_run_tells_of_itself_while_nothing_is_done(clock, told, monkeypatch):
    """By its silence it would be taken for dead."""
    monkeypatch.setattr(progress, "_LOOK_S", 0.001)
    is_told = threading.Event()

    def tell(event: dict) -> None:
        told.append(event)
        is_told.set()

    with ProgressBar(None, 9, 0, tell=tell, clock=clock):
        clock.now += 61
        assert is_told.wait(30)
    assert "0 of 9 chunks, 0 frames/s, 1 worker, end not known yet" in told[0]["text"]


def test_the_pace_is_that_of_the_last_minutes():
    pace = Pace(0, 100_000)
    for minute in range(60):
        pace.add(minute * 60, 60, 600)  # a chunk a second, for an hour
    assert pace.rates(3540) == pytest.approx((1, 10), rel=0.01)
    for minute in range(60, 75):
        pace.add(minute * 60, 600, 6000)  # then ten, for a quarter
    assert pace.rates(74 * 60) == pytest.approx((10, 100), rel=0.01)
    assert pace.left_s(74 * 60) == pytest.approx((100_000 - 3600 - 9000) / 10, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (7300, "2 h 1 min"), (200_000, "2 d 7 h")],
)
def test_durations_are_for_people(seconds, shown):
    assert duration(seconds) == shown
