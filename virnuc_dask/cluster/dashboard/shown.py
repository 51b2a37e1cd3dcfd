"""What the page shows of a run: its head as HTML, escaped, and the rows of its tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from virnuc_dask.cluster.dashboard.run_state import RunState, WorkerState

if TYPE_CHECKING:
    from virnuc_dask.cluster.dashboard.monitor import RunMonitor

_UNKNOWN = "-"
_HEAD = Environment(
    loader=PackageLoader("virnuc_dask.cluster.dashboard", ""),
    autoescape=True,
    undefined=StrictUndefined,
).get_template("head.html")


def head(monitor: RunMonitor, others: int, now: float) -> str:
    """The upper part of the page, as HTML; names of files and models are escaped."""
    state, in_work = monitor.state, monitor.in_work()
    about = state.about
    done = about.partitions_before + state.partitions_done
    shares = (("done", done), ("failed", state.partitions_failed), ("in_work", in_work))
    return _HEAD.render(
        about=about,
        mode=about.mode.replace("_", " "),
        state=_phase(state),
        others=max(0, others),
        tiles=_tiles(state, done, in_work, now),
        bar=[(name, 100 * value / max(about.partitions, 1)) for name, value in shares],
    )


def _tiles(state: RunState, done: int, in_work: int, now: float) -> list[tuple[str, str]]:
    about, share = state.about, state.viral_share
    frames, chunks = (state.recent_rate(each, now) for each in (state.frames, state.chunks))
    remaining_s = None if state.ended else state.remaining_s(now)
    return [
        (f"{done:,} of {about.partitions:,}", "partitions done"),
        (f"{in_work:,}", "in work"),
        (f"{state.partitions_failed:,}", f"failed ({state.chunks_failed:,} {about.parts})"),
        (_rate(frames), f"{about.scored} a second"),
        (_rate(chunks), f"{about.parts} a second"),
        (
            _UNKNOWN if share is None else f"{share:.1%}",
            f"virus, of {state.rows_judged:,} {about.scored}",
        ),
        (_duration((state.ended or now) - state.started), "so far"),
        (
            _UNKNOWN if remaining_s is None else _duration(remaining_s),
            "to go" if remaining_s is None else f"to go, until {_clock(now + remaining_s)} UTC",
        ),
    ]


def _phase(state: RunState) -> str:
    if state.ended is not None:
        return f"ended at {_clock(state.ended)} UTC"
    begun = f"began at {_clock(state.started)} UTC"
    is_loaded = any(worker.loads for worker in state.workers.values())
    return begun if is_loaded else f"{begun}, the model set loads"


def worker_rows(monitor: RunMonitor, now: float) -> list[dict[str, Any]]:
    """A row for each worker that is there; None where nothing is known."""
    return [_worker_row(monitor, worker, now) for worker in monitor.live_workers()]


def _worker_row(monitor: RunMonitor, worker: Any, now: float) -> dict[str, Any]:
    state, name, metrics = monitor.state, str(worker.name), worker.metrics
    told = state.workers.get(name, WorkerState())
    gpu = told.device not in ("", "cpu")
    return {
        "worker": name,
        "device": told.device or _UNKNOWN,
        "use": round(metrics.get("gpu_utilization" if gpu else "cpu") or 0),
        "rate": state.recent_rate(state.frames, now, name),
        "in_work": monitor.in_work(worker),
        "partitions": told.partitions,
        "memory": metrics.get("memory"),
        "gpu_memory": metrics.get("gpu_memory_used") if gpu else None,
        "weights": told.weight_bytes or None,
        "kept": _kept(state.about.mode, told),
        "loads": told.loads,
        "idle": told.idle_s if gpu else None,
        "celsius": metrics.get("gpu_celsius"),
    }


def _kept(mode: str, told: WorkerState) -> str:
    parts = (mode.replace("_", " "), told.residency)
    return ", ".join(filter(None, parts)) if told.loads else "loads"


def event_rows(state: RunState) -> list[dict[str, Any]]:
    """A row for each event, the newest first."""
    return [
        {"time": _clock(event.time), "what": event.what, "text": event.text}
        for event in state.events
    ]


def _rate(value: float) -> str:
    if not value:
        return _UNKNOWN
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
