"""What the scheduler tells Prometheus of each run, at ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from virnuc_dask.cluster.dashboard.monitor import RunMonitor


class _Runs(Collector):
    """The runs that schedulers of this process show; registered once, whatever comes and goes."""

    def __init__(self) -> None:
        self.shown: list[RunMonitor] = []
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """All families, also where there is no run."""
        gauges = {
            name: GaugeMetricFamily(f"virnuc_{name}", text, labels=["run", *labels])
            for name, text, labels in _GAUGES
        }
        counters = {
            name: CounterMetricFamily(f"virnuc_run_{name}", text, labels=["run"])
            for name, text in _COUNTERS
        }
        for monitor in list(self.shown):
            _fill(monitor, gauges, counters)
        yield from (*gauges.values(), *counters.values())


_GAUGES = (
    ("run_info", "A run: 1.", ("out", "modelset", "precision", "mode")),
    ("partitions", "Partitions of a run, by state.", ("state",)),
    ("run_chunks", "Chunks, or pieces, of a run, by state.", ("state",)),
    ("run_start_time_seconds", "When a run began to compute, since the epoch.", ()),
    ("run_remaining_seconds", "Estimated time to the end of a run.", ()),
)
_COUNTERS = (
    ("frames", "Frames, or genes, that a run has scored."),
    ("viral_frames", "Frames, or genes, that a run has called virus."),
)


def _fill(
    monitor: RunMonitor,
    gauges: dict[str, GaugeMetricFamily],
    counters: dict[str, CounterMetricFamily],
) -> None:
    state, run = monitor.state, monitor.topic
    about, in_work = state.about, monitor.in_work()
    done = about.partitions_before + state.partitions_done
    known = {"done": done, "failed": state.partitions_failed, "in_work": in_work}
    waiting = max(0, about.partitions - sum(known.values()))
    for name, value in (*known.items(), ("waiting", waiting)):
        gauges["partitions"].add_metric([run, name], value)
    for name, value in (
        ("planned", about.chunks),
        ("done", about.chunks_before + state.chunks_done),
        ("failed", state.chunks_failed),
    ):
        gauges["run_chunks"].add_metric([run, name], value)
    names = [run, about.out, about.modelset, about.precision, about.mode]
    gauges["run_info"].add_metric(names, 1)
    gauges["run_start_time_seconds"].add_metric([run], state.started)
    if (remaining := state.remaining_s(time.time())) is not None:
        gauges["run_remaining_seconds"].add_metric([run], remaining)
    counters["frames"].add_metric([run], state.scored)
    counters["viral_frames"].add_metric([run], state.viral)


_RUNS = _Runs()


def show(monitor: RunMonitor) -> None:
    """Tell of a run from now on."""
    _RUNS.shown.append(monitor)


def hide(monitor: RunMonitor) -> None:
    """Tell of a run no longer."""
    if monitor in _RUNS.shown:
        _RUNS.shown.remove(monitor)
