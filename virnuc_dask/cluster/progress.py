"""How far a run is, how fast it goes and when it will end: as a bar, as a line a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from virnuc_dask.cluster.journal import Journal
from virnuc_dask.modelsets.manifest import Units

EVERY_S = 60.0  # that a run tells of itself; by its silence `status` knows one that died
_LOOK_S = 1.0
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


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
    """Chunks (or pieces) done of all: a bar on a terminal, and an event a minute."""

    def __init__(
        self, console: Console | None, journal: Journal, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal, self._clock, self._told_at = journal, clock, clock()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}"),
            console=console,
            disable=console is None or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("Scoring", total=journal.state.chunks_planned, rest="")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """Draw the bar; tell how far the run is if a minute has gone by."""
        now, state, workers = self._clock(), self._journal.state, self._journal.workers
        _, frames_per_s = state.pace.rates(now)
        left_s, parts = state.left_s(now), state.units.parts
        done = state.chunks + state.chunks_failed
        rest = f"{rate_text(frames_per_s, workers, state.units)}, {end_text(left_s)}"
        self._bar.update(self._task, completed=done, rest=f"{parts} · {rest}")
        if now - self._told_at < EVERY_S:
            return
        self._told_at = now
        self._journal.write(
            {
                "event": "progress",
                "text": f"{done:,} of {state.chunks_planned:,} {parts}, {rest}",
                "chunks": done,
                "workers": workers,
                "frames_per_s": round(frames_per_s, 1),
                "left_s": None if left_s is None else round(left_s),
            }
        )
