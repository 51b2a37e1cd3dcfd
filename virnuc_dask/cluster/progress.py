"""The progress bar of a run."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from virnuc_dask.modelsets.manifest import Units

_FRAMES = Units()


class ProgressBar:
    """Chunks (or pieces) done of all, on a terminal; nothing elsewhere."""

    def __init__(
        self, console: Console | None, total: int, done: int, units: Units = _FRAMES
    ) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{units.parts} · {{task.fields[rate]}} {units.scored}/s ·"),
            TimeRemainingColumn(),
            console=console,
            disable=console is None or not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("Scoring", total=total, completed=done, rate="-")
        self._frames = 0
        self._start = 0.0

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, chunks: int, frames: int) -> None:
        """A partition is done."""
        self._frames += frames
        rate = self._frames / max(time.perf_counter() - self._start, 1e-9)
        self._progress.update(self._task, advance=chunks, rate=f"{rate:,.0f}")
