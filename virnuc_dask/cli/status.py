"""``status``: how the run in a folder fares."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
from rich.live import Live
from rich.text import Text

from virnuc_dask.cli.options import InputPath
from virnuc_dask.cli.terminal import say
from virnuc_dask.cluster.journal import line_of
from virnuc_dask.cluster.progress import duration, end_text, rate_text
from virnuc_dask.errors import harmless
from virnuc_dask.modelsets.manifest import Units
from virnuc_dask.outputs.run_status import RunStatus
from virnuc_dask.stages.calls import VIRUS, VIRUS_REGION
from virnuc_dask.tables.folder import RunFolder

_REFRESH_S = 2.0
_REASONS = 3  # of failures that are shown


@click.command("status")
@click.argument("out", type=InputPath())
@click.option("--watch", is_flag=True, help="Look again every two seconds, until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="For programs; with --watch, a line a look.")
def status_command(out: Path, watch: bool, as_json: bool) -> None:
    """Tell what the run in OUT has done, how fast it is, and when it will end.

    From the folder alone, on any machine that sees it: no scheduler is asked, nothing is written.
    """
    status = RunStatus(RunFolder(out))
    looks = _looks(status) if watch else islice(_looks(status), 1)
    with suppress(KeyboardInterrupt):  # Ctrl-C ends watching
        if as_json:
            for found in looks:
                say(json.dumps(found, indent=None if watch else 2))
        elif watch and sys.stdout.isatty():
            _show_in_place(looks)
        else:
            _show_what_is_new(looks)


def _looks(status: RunStatus) -> Iterator[dict[str, Any]]:
    """What is known every two seconds, until the run has ended."""
    while True:
        status.read()
        found = status.as_json()
        yield found
        if found["state"] not in ("running", "silent"):
            return
        time.sleep(_REFRESH_S)


def _show_in_place(looks: Iterator[dict[str, Any]]) -> None:
    with Live(auto_refresh=False) as live:
        for found in looks:
            live.update(Text(harmless(status_text(found))), refresh=True)


def _show_what_is_new(looks: Iterator[dict[str, Any]]) -> None:
    """Once for everything that the run writes."""
    seen = None
    for found in looks:
        if found["events"] != seen:
            say(f"{'' if seen is None else chr(10)}{status_text(found)}")
        seen = found["events"]


def status_text(found: Mapping[str, Any]) -> str:
    """What is known of a run, for people."""
    units = Units(found["parts"], found["scored"])
    lines = [("run", found["folder"]), ("state", _state(found))]
    if began := found["run_started"]:
        lines += [("input", began["inputs"]), ("started", _moment(began["time"]))]
    if found["cluster"]:
        lines.append(("where", found["cluster"]["text"]))
    if found["partitions_planned"]:
        lines += [
            (units.parts, _share(found, "chunks")),
            ("partitions", _share(found, "partitions")),
        ]
    if found["frames_per_s"] is not None:
        lines.append(("rate", rate_text(found["frames_per_s"], found["workers"], units)))
    if found["phase"] == "computing":
        lines.append(("end", end_text(found["left_s"])))
    lines += [
        ("failed", f"{chunks:,} {units.parts}: {reason}")
        for reason, chunks in list(found["failures"].items())[:_REASONS]
    ]
    if summary := found["summary"]:
        records, contigs = summary["records"], summary["contigs"]
        virus, partly = contigs[VIRUS], contigs.get(VIRUS_REGION, 0)
        held = f", {partly:,} hold a viral region" if partly else ""
        earlier = "" if found["state"] == "finished" else ", of an earlier run"
        made = _moment(summary["finished"]) + earlier
        lines.append(("results", f"{virus:,} of {records:,} records are virus{held}; {made}"))
    return "\n".join(
        [f"{name:<12}{value}" for name, value in lines]
        + ["last events" for _ in found["events"][:1]]
        + [f"  {_here(each['time']):%H:%M:%S}  {line_of(each, units)}" for each in found["events"]]
    )


def _share(found: Mapping[str, Any], what: str) -> str:
    done, planned = found[what], found[f"{what}_planned"]
    return f"{done:,} of {planned:,} ({done / max(1, planned):.0%})"


def _state(found: Mapping[str, Any]) -> str:
    began, failed = found["run_started"] or {}, found["chunks_failed"]
    process = f"process {began.get('pid')} on {began.get('host')}"
    return {
        "running": f"running: {found['phase']}",
        "silent": f"no sign of life for {duration(found['silent_s'] or 0)} from {process}. While a "
        "run computes it tells of itself every minute: it died, or it reads or writes much.",
        "finished": "finished"
        + (
            f", but {failed:,} {found['parts']} failed; --resume tries them again" if failed else ""
        ),
        "failed": f"failed: {(found['run_failed'] or {}).get('reason')}",
        "interrupted": "interrupted; it goes on with --resume",
        "died": f"died: {process} is gone and did not say why (killed? out of memory?). What is "
        "done is kept; it goes on with --resume.",
        "unknown": "not known: there is no log here, and no run is recorded as finished",
    }[found["state"]]


def _here(stamp: str) -> datetime:
    """A moment by the clock of this place."""
    return datetime.fromisoformat(stamp).astimezone()


def _moment(stamp: str) -> str:
    ago_s = max(0.0, time.time() - _here(stamp).timestamp())
    return f"{_here(stamp):%Y-%m-%d %H:%M:%S} ({duration(ago_s)} ago)"
