"""Where a run's time went, from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

NOT_WORK = ("wait", "finish")  # of the stages, for a worker
LOADED, DONE = "modelset_loaded", "partition_done"


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The events of ``run.log.jsonl``, in order."""
    log = (folder / "run.log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in log.splitlines()]


def phases(folder: Path, summary: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a run's phases, from its folder and `virnuc_dask.run.Run.summary`.

    ``start_s`` until the last model set is loaded (without persistent models a load is work),
    ``working_s`` from then to the last partition done, ``end_s`` for what comes after, ``whole_s``
    all of it; ``computing_s`` is what the stages themselves took, all workers together; ``other_s``
    is the rest of the workers' working time: what Dask, waiting and unevenness add.
    """
    events = read_events(folder)
    persistent = all(event.get("mode") != "per_partition" for event in events)
    ready = LOADED if persistent else "modelset_loading"
    begun = _time(events[0])
    loaded = max(_time(event) for event in events if event["event"] == ready)
    worked = max(_time(event) for event in events if event["event"] == DONE)
    ended = max(_time(event) for event in events)
    computing_s = sum(s for stage, s in summary["stage_s"].items() if stage not in NOT_WORK)
    working_s = (worked - loaded).total_seconds()
    return {
        "start_s": (loaded - begun).total_seconds(),
        "working_s": working_s,
        "end_s": (ended - worked).total_seconds(),
        "whole_s": float(summary["elapsed_s"]),
        "computing_s": computing_s,
        "other_s": max(0.0, summary["cluster"]["workers"] * working_s - computing_s),
    }


def _time(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])
