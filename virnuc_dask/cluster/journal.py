"""The event log of a run: what happened, as lines of JSON, and as lines for people."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Self

from distributed import Client

from virnuc_dask.cluster.run_state import RunState
from virnuc_dask.errors import VirnucError
from virnuc_dask.modelsets.manifest import Units
from virnuc_dask.tables.paths import writing

logger = logging.getLogger("virnuc_dask")

_LONGEST_LINE = 1 << 16  # bytes
_FRAMES = Units()

# How each event reads at INFO.
_LINES = {
    "run_started": "{inputs} → {out}",
    "planned": "{records} records, {chunks} {parts} of at most {chunk_length} nt; partitions: "
    "{partitions}, {partitions_done} done already",
    "cluster": "{text}",
    "note": "{message}",
    "warning": "{message}",
    "modelset_loading": "loading model set {modelset} in {precision}",
    "modelset_loaded": "model set {modelset} loaded on worker {worker} ({device}) in "
    "{elapsed_s} s: {weight_bytes}, load number {loads}, {mode}, {residency}; memory "
    "{memory_before_bytes} → {memory_after_bytes}",
    "encoder_loaded": "encoder {encoder} loaded on worker {worker} in {elapsed_s} s",
    "modelset_released": "model set {modelset} released on worker {worker}; memory "
    "{memory_before_bytes} → {memory_after_bytes}",
    "worker_refused": "{reason} It gets nothing to do.",
    "cache_cleared": "GPU cache cleared on worker {worker} after {partitions} partitions; memory "
    "{memory_before_bytes} → {memory_after_bytes}",
    "partition_done": "partition {partition} done on worker {worker}: {chunks} {parts}, "
    "{frames} {scored}, {total_s} s; memory {memory_before_bytes} → {memory_after_bytes}, "
    "{mode}",
    "partition_deadly": "partition {partition}: {reason}; it is computed while nothing else is, to "
    "find the cause among {chunks} {parts}",
    "partition_failed": "partition {partition}: {chunks} {parts} failed: {reason}",
    "progress": "{text}",
    "run_done": "done in {elapsed_s} s",
    "run_interrupted": "interrupted",
    "run_failed": "{reason}",
}
# Shown as lines even beside a progress bar.
_HEADLINES = {"run_started", "planned", "note", "cluster", "modelset_loading", "modelset_loaded"}
_WARNINGS = {"partition_failed", "partition_deadly", "warning", "worker_refused"}
# Shown where everything is: a line a minute sums them up, or whoever ends a run says why.
_DETAILS = {
    "partition_done",
    "encoder_loaded",
    "modelset_released",
    "cache_cleared",
    "run_interrupted",
    "run_failed",
}


class Journal:
    """Writes events to ``run.log.jsonl`` and logs them; keeps count of model loads.

    Takes events from the run's own thread and from Dask's. A line is in the file whole or not at
    all; where the disk is full it is left out, and the tables will tell.
    """

    def __init__(self, stream: FileIO, units: Units = _FRAMES) -> None:
        self._stream = stream
        self._units = units
        self._lock = threading.Lock()
        self.state = RunState()
        self.loads: dict[tuple[str, int], dict[str, Any]] = {}
        self.released = 0  # model sets given back, all workers together
        self.refused: dict[str, VirnucError] = {}  # workers that can compute nothing, by address
        self._is_ended = False
        self.workers = 1  # that can compute, when they were last looked at
        # Told of each event, with the line that people read.
        self.listener: Callable[[dict[str, Any], str], None] | None = None

    @classmethod
    @contextmanager
    def opened(
        cls, path: Path, units: Units = _FRAMES, inputs: str | None = None
    ) -> Iterator[Self]:
        """A journal that appends to ``path``, and tells of ``units``.

        With ``inputs`` a run begins here, with the block; if it ends badly, that is told as well.
        """
        with writing(path):
            stream = FileIO(path, "a+")
        with stream:
            _drop_half_line(stream)
            journal = cls(stream, units)
            if inputs is not None:
                journal._begin(inputs, path.parent)
            with journal.telling_end():
                yield journal

    def write(self, event: dict[str, Any]) -> None:
        """Take one event in: a dict with a key ``event``."""
        with self._lock:
            stamped = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
            self._append(json.dumps(stamped).encode() + b"\n")
            self._count(event)
            self.state.take(event, time.time())
        kind = event["event"]
        line = line_of(event, self._units)
        logger.log(_level(kind), line, extra={"headline": kind in _HEADLINES})
        if self.listener is not None:
            self.listener(event, line)

    def _begin(self, inputs: str, out: Path) -> None:
        """Write down what is run, and by which process: readers of the log look if it lives."""
        event = {"event": "run_started", "inputs": inputs, "out": str(out)}
        self.write({**event, **this_place(), "pid": os.getpid()})

    @contextmanager
    def telling_end(self) -> Iterator[None]:
        """Write down, once, that what is done inside came to a bad end.

        Around the innermost step too: a second Ctrl-C can end the process before all is closed.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self._end({"event": "run_interrupted"})
            raise
        except Exception as error:
            name = "" if isinstance(error, VirnucError) else f"{type(error).__name__}: "
            self._end({"event": "run_failed", "reason": f"{name}{error}"})
            raise

    def _end(self, event: dict[str, Any]) -> None:
        if not self._is_ended:
            self._is_ended = True
            self.write(event)

    def _append(self, line: bytes) -> None:
        size = self._stream.seek(0, os.SEEK_END)
        with suppress(OSError):
            if self._stream.write(line) == len(line):
                return
        with suppress(OSError):
            self._stream.truncate(size)

    def refuse(self, address: str, why: VirnucError) -> None:
        """Note, once, that a worker can compute nothing."""
        if address not in self.refused:
            self.refused[address] = why
            self.write({"event": "worker_refused", "address": address, "reason": str(why)})

    def deadly(self, partition: int, chunks: int, reason: str) -> None:
        """Note that a partition killed its workers, and is to be computed alone."""
        event = {"event": "partition_deadly", "partition": partition}
        self.write({**event, "chunks": chunks, "reason": reason})

    def _count(self, event: dict[str, Any]) -> None:
        if event["event"] == "modelset_loaded":
            worker = self.loads.setdefault((event["worker"], event["pid"]), {})
            worker.update(
                {k: event[k] for k in ("worker", "pid", "device", "weight_bytes", "elapsed_s")},
                model_loads=worker.get("model_loads", 0) + 1,
            )
        elif event["event"] == "modelset_released":
            self.released += 1


def _drop_half_line(stream: FileIO) -> None:
    """Cut off a last line without its end."""
    before = max(0, stream.seek(0, os.SEEK_END) - _LONGEST_LINE)
    stream.seek(before)
    end = stream.read().rfind(b"\n")
    if end >= 0 or not before:
        stream.truncate(before + end + 1)


def line_of(event: Mapping[str, Any], units: Units = _FRAMES) -> str:
    """An event for people; one of another version of this program as it is."""
    shown = {key: _readable(key, value) for key, value in event.items()}
    try:
        return _LINES[event["event"]].format_map(units._asdict() | shown)
    except KeyError:
        return json.dumps(event)


def this_place() -> dict[str, str]:
    """Where the number of a process means the same: a machine, and in it a container."""
    processes = ""
    with suppress(OSError):
        processes = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "processes": processes}


def _level(kind: str) -> int:
    if kind in _WARNINGS:
        return logging.WARNING
    return logging.DEBUG if kind in _DETAILS else logging.INFO


def _readable(key: str, value: Any) -> Any:
    """Bytes as megabytes; anything else as it is."""
    return f"{value / 1e6:,.1f} MB" if key.endswith("_bytes") else value


@contextmanager
def subscribed(client: Client, topic: str, journal: Journal) -> Iterator[None]:
    """Pass the workers' events of ``topic`` on to the journal."""

    def take_in(event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        # The scheduler puts the worker's address under "worker"; people know workers by name.
        journal.write({**message, "worker": message["name"]})

    client.subscribe_topic(topic, take_in)
    try:
        yield
    finally:
        client.unsubscribe_topic(topic)


def wait_for_releases(journal: Journal, expected: int, timeout_s: float = 5.0) -> None:
    """Wait until so many model sets are reported released.

    Events travel beside the answers to the client's calls and can come later; those of a worker
    that dies in this moment never come, hence the limit.
    """
    deadline = time.monotonic() + timeout_s
    while journal.released < expected and time.monotonic() < deadline:
        time.sleep(0.02)
