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
from virnuc_dask.cluster.progress import EVERY_S, Pace
from virnuc_dask.errors import BadTableError
from virnuc_dask.modelsets.manifest import UNITS_OF_GENES, Units
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_run_json

_LAST_EVENTS = 5
_SILENT_S = 5 * EVERY_S  # after which a run whose process cannot be looked at may be dead
_ENDS = {"run_done": "finished", "run_failed": "failed", "run_interrupted": "interrupted"}
_PHASES = {  # what a run does after an event
    "run_started": "planning",
    "planned": "starting workers",
    "modelset_loading": "loading the model set",
    "modelset_loaded": "computing",
}


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
        self._run_json: tuple[int, Units, Mapping[str, Any] | None] = (0, Units(), None)
        self._begin()

    def _begin(self) -> None:
        self._last: dict[str, Mapping[str, Any]] = {}  # event of each kind
        self._events: deque[Mapping[str, Any]] = deque(maxlen=_LAST_EVENTS)
        self._failed: Counter[str] = Counter()  # chunks by reason
        self._chunks = self._partitions = self._frames = 0
        self._phase, self._updated, self._worked = "", 0.0, 0.0
        self._pace = Pace(0, 0)

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
        kind, at = event["event"], datetime.fromisoformat(event["time"]).timestamp()
        if kind == "run_started":
            self._begin()
        self._last[kind], self._updated = event, at
        if kind != "progress":
            self._events.append(event)
        self._phase = _PHASES.get(kind, self._phase)
        if kind == "planned":
            self._partitions, self._chunks = event["partitions_done"], event.get("chunks_done", 0)
        elif kind == "modelset_loading" or (kind == "modelset_loaded" and not self._worked):
            self._pace = Pace(at, self._planned("chunks") - self._chunks)
        elif kind in ("partition_done", "partition_failed"):
            self._count(event, at)

    def _count(self, event: Mapping[str, Any], at: float) -> None:
        chunks, frames = event["chunks"], event.get("frames", 0)
        if event["event"] == "partition_done":
            self._partitions += 1
            self._chunks += chunks
            self._frames += frames
        else:
            self._failed[event["reason"]] += chunks
        self._worked = at
        self._pace.add(at, chunks, frames)
        if self._chunks + self._failed.total() >= self._planned("chunks"):
            self._phase = "writing results"

    def _planned(self, what: str) -> int:
        return int(self._last.get("planned", {}).get(what, 0))

    def as_json(self, now: float | None = None) -> dict[str, Any]:
        """All that is known, for programs; rates are those of the last minutes of work.

        ``state`` is ``running``; ``silent`` (a run that this machine cannot look at, and that may
        be dead); ``finished``, ``failed``, ``interrupted``; ``died`` (its process is gone and took
        no leave); or ``unknown`` (there is no log). ``summary`` can be an earlier run's.
        """
        now = time.time() if now is None else now
        units, summary = self._recorded()
        state = self._state(now, finished=summary is not None)
        is_open = state in ("running", "silent")
        chunks_per_s, frames_per_s = self._pace.rates(now if is_open else self._worked)
        at_work = self._last.get("progress") or self._last.get("cluster") or {}
        return {
            "folder": str(self._folder.path),
            "state": state,
            "phase": self._phase if is_open else None,
            "silent_s": round(now - self._updated) if self._updated else None,
            "chunks": self._chunks,
            "chunks_failed": self._failed.total(),
            "chunks_planned": self._planned("chunks"),
            "partitions": self._partitions,
            "partitions_planned": self._planned("partitions"),
            "frames": self._frames,
            "chunks_per_s": round(chunks_per_s, 2) if self._worked else None,
            "frames_per_s": round(frames_per_s, 2) if self._worked else None,
            "left_s": self._pace.left_s(now) if is_open and self._worked else None,
            "workers": at_work.get("workers"),
            "failures": dict(self._failed.most_common()),
            **{kind: self._last.get(kind) for kind in ("run_started", "cluster", "run_failed")},
            "events": list(self._events),
            **units._asdict(),
            "summary": summary,
        }

    def _state(self, now: float, *, finished: bool) -> str:
        if ends := [state for kind, state in _ENDS.items() if kind in self._last]:
            return ends[0]
        began = self._last.get("run_started")
        if began is None:
            return "finished" if finished else "unknown"
        if this_place().items() <= began.items():
            return "running" if _lives(began) else "died"
        return "running" if now - self._updated < _SILENT_S else "silent"

    def _recorded(self) -> tuple[Units, Mapping[str, Any] | None]:
        """What ``run.json`` adds: what was read, and what came out. It can be large: read once."""
        try:
            changed = self._folder.run_json.stat().st_mtime_ns
            if changed != self._run_json[0]:
                content = read_run_json(self._folder)
                units = UNITS_OF_GENES if "reading" in content["modelset"] else Units()
                self._run_json = changed, units, content["summary"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Units(), None
        return self._run_json[1:]


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
