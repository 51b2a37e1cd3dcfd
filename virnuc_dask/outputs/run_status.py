"""What a run has done and whether it lives, told from its folder alone; nothing is written."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import psutil

from virnuc_dask.cluster.journal import this_place
from virnuc_dask.cluster.progress import EVERY_S
from virnuc_dask.cluster.run_state import RunState
from virnuc_dask.errors import BadTableError
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_run_json

_LAST_EVENTS = 5
_SILENT_S = 5 * EVERY_S  # after which a run whose process cannot be looked at may be dead
_ENDS = {"run_done": "finished", "run_failed": "failed", "run_interrupted": "interrupted"}


class RunStatus:
    """The last run in a folder, as its log tells: `read` takes in what is new there.

    Raises
    ------
    BadTableError
        If no run lies there.
    """

    def __init__(self, folder: RunFolder) -> None:
        if not folder.is_run:
            raise BadTableError(f"{folder.path}: no run here; name the folder given to `run -o`.")
        self._folder = folder
        self._read_bytes = 0
        self._summary: tuple[int, Mapping[str, Any] | None] = (0, None)  # with its file's time
        self._run = RunState()
        self._failures: Counter[str] = Counter()  # chunks by reason
        self._events: deque[Mapping[str, Any]] = deque(maxlen=_LAST_EVENTS)

    def read(self) -> None:
        """Take in the events that were written since the last time."""
        with suppress(FileNotFoundError), self._folder.log.open("rb") as log:
            if log.seek(0, os.SEEK_END) < self._read_bytes:  # another log is there
                self._read_bytes = 0
            log.seek(self._read_bytes)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._read_bytes += len(line)
                with suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged
                    self._take_in(json.loads(line))

    def _take_in(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started":
            self._run = RunState()
            self._failures.clear()
            self._events.clear()
        self._run.take(event, datetime.fromisoformat(event["time"]).timestamp())
        if event["event"] == "partition_failed":
            self._failures[event["reason"]] += event["chunks"]
        if event["event"] != "progress":
            self._events.append(event)

    def as_json(self, now: float | None = None) -> dict[str, Any]:
        """All that is known, for programs; rates are those of the last minutes of work.

        ``state`` is ``running``; ``silent`` (a run that this machine cannot look at, and that may
        be dead); ``finished``, ``failed``, ``interrupted``; ``died`` (its process is gone and took
        no leave); or ``unknown`` (there is no log). ``summary`` can be an earlier run's.
        """
        now = time.time() if now is None else now
        run, summary = self._run, self._recorded()
        state = self._state(now, finished=summary is not None)
        is_open = state in ("running", "silent")
        chunks_per_s, frames_per_s = run.pace.rates(now if is_open else run.worked)
        at_work = run.last.get("progress") or run.last.get("cluster") or {}
        return {
            "folder": str(self._folder.path),
            "state": state,
            "phase": run.phase if is_open else None,
            "silent_s": round(now - run.updated) if run.updated else None,
            "chunks": run.chunks,
            "chunks_failed": run.chunks_failed,
            "chunks_planned": run.chunks_planned,
            "partitions": run.partitions,
            "partitions_planned": run.planned.get("partitions", 0),
            "frames": run.frames,
            "chunks_per_s": round(chunks_per_s, 2) if run.worked else None,
            "frames_per_s": round(frames_per_s, 2) if run.worked else None,
            "left_s": run.left_s(now) if is_open and run.worked else None,
            "workers": at_work.get("workers"),
            "failures": dict(self._failures.most_common()),
            **{kind: run.last.get(kind) for kind in ("run_started", "cluster", "run_failed")},
            "events": list(self._events),
            **run.units._asdict(),
            "summary": summary,
        }

    def _state(self, now: float, *, finished: bool) -> str:
        began = self._run.last.get("run_started")
        if ends := [state for kind, state in _ENDS.items() if kind in self._run.last]:
            was_refused = finished and "planned" not in self._run.last  # after a run that ended
            return "finished" if was_refused else ends[0]
        if began is None:
            return "finished" if finished else "unknown"
        if this_place().items() <= began.items():
            return "running" if _lives(began) else "died"
        return "running" if now - self._run.updated < _SILENT_S else "silent"

    def _recorded(self) -> Mapping[str, Any] | None:
        """The summary in ``run.json``, which can be large: read once."""
        try:
            changed = self._folder.run_json.stat().st_mtime_ns
            if changed != self._summary[0]:
                self._summary = changed, read_run_json(self._folder)["summary"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return self._summary[1]


def _lives(began: Mapping[str, Any]) -> bool:
    """Whether the process that wrote the event is there still; its number can be another's now."""
    try:
        process = psutil.Process(began["pid"])
        is_older = process.create_time() <= datetime.fromisoformat(began["time"]).timestamp() + 1
        return is_older and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, KeyError, ValueError, TypeError):
        return False
