"""How far a run is, how fast it goes and when it will end: as a bar, as a line a minute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from virnuc_dask.modelsets.manifest import Units

_FRAMES = Units()
EVERY_S = 60.0  # that a run tells of itself; by its silence `status` knows one that died
_LOOK_S = 1.0
_WINDOW_S = 600.0  # that rates are of
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


class Pace:
    """Chunks and frames a second, over the last minutes: workers come and go.

    Times are in seconds, of any clock.
    """

    def __init__(self, start: float, left: int) -> None:
        self._since = start  # the beginning of what the steps tell of
        self._left = left
        self._steps: deque[tuple[float, int, int]] = deque()

    def add(self, now: float, chunks: int, frames: int) -> None:
        """A partition is done."""
        self._left -= chunks
        self._steps.append((now, chunks, frames))
        while len(self._steps) > 1 and self._steps[0][0] < now - _WINDOW_S:
            self._since = self._steps.popleft()[0]

    def rates(self, now: float) -> tuple[float, float]:
        """Chunks and frames a second."""
        elapsed_s = max(now - self._since, 1e-9)
        chunks, frames = (sum(step[part] for step in self._steps) for part in (1, 2))
        return chunks / elapsed_s, frames / elapsed_s

    def left_s(self, now: float) -> float | None:
        """Seconds to the last chunk; None while nothing is known."""
        chunks_per_s, _ = self.rates(now)
        return max(0, self._left) / chunks_per_s if chunks_per_s else None


def rate_text(frames_per_s: float, workers: int, units: Units) -> str:
    """How fast a run is, and by how many workers, for people."""
    at_work = f"{workers:,} worker" + ("" if workers == 1 else "s")
    return f"{frames_per_s:,.0f} {units.scored}/s, {at_work}"


def end_text(left_s: float | None) -> str:
    """When a run will end, for people."""
    return "end not known yet" if left_s is None else f"about {duration(left_s)} to go"


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, to two figures or so."""
    if seconds >= _DAY_S:
        return f"{seconds // _DAY_S:.0f} d {seconds % _DAY_S // _HOUR_S:.0f} h"
    if seconds >= _HOUR_S:
        return f"{seconds // _HOUR_S:.0f} h {seconds % _HOUR_S // _MINUTE_S:.0f} min"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds >= _MINUTE_S else f"{seconds:.0f} s"


class ProgressBar:
    """Chunks (or pieces) done of all: a bar on a terminal, and an event a minute.

    Parameters
    ----------
    tell
        Takes the events.
    workers
        How many there are now.
    """

    def __init__(
        self,
        console: Console | None,
        total: int,
        done: int,
        units: Units = _FRAMES,
        *,
        tell: Callable[[dict[str, Any]], None] = lambda _: None,
        workers: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{units.parts} · {{task.fields[rest]}}"),
            console=console,
            disable=console is None or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("Scoring", total=total, completed=done, rest="")
        self._total, self._done, self._units = total, done, units
        self._tell, self._workers, self._clock = tell, workers, clock
        self._pace = Pace(clock(), total - done)
        self._told_at = clock()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._pace = Pace(self._clock(), self._total - self._done)
        self._told_at = self._clock()
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._bar.stop()

    def advance(self, chunks: int, frames: int) -> None:
        """A partition is done."""
        with self._lock:
            self._done += chunks
            self._pace.add(self._clock(), chunks, frames)
        self.look()

    def look(self) -> None:
        """Draw the bar; tell how far the run is if a minute has gone by."""
        with self._lock:
            self._look()

    def _look(self) -> None:
        now, workers = self._clock(), self._workers()
        _, frames_per_s = self._pace.rates(now)
        left_s = self._pace.left_s(now)
        rest = f"{rate_text(frames_per_s, workers, self._units)}, {end_text(left_s)}"
        self._bar.update(self._task, completed=self._done, rest=rest)
        if now - self._told_at < EVERY_S:
            return
        self._told_at = now
        self._tell(
            {
                "event": "progress",
                "text": f"{self._done:,} of {self._total:,} {self._units.parts}, {rest}",
                "chunks": self._done,
                "workers": workers,
                "frames_per_s": round(frames_per_s, 1),
                "left_s": None if left_s is None else round(left_s),
            }
        )

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look()
