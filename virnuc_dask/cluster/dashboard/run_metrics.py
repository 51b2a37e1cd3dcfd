"""What the scheduler tells Prometheus of each run, at ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from virnuc_dask.cluster.dashboard.monitor import RunMonitor

SHOWN: list[RunMonitor] = []  # runs of this process's schedulers

Values = Mapping[tuple[str, ...], float]  # by the labels besides the run


class _Runs(Collector):
    """Registered once a process, whatever runs come and go."""

    def collect(self) -> Iterator[Metric]:
        """All metrics, also where there is no run."""
        for kind, name, text, labels, values in _METRICS:
            metric = kind(f"virnuc_{name}", text, labels=["run", *labels])
            for run in list(SHOWN):
                for labelled, value in values(run).items():
                    metric.add_metric([run.topic, *labelled], value)
            yield metric


def _info(run: RunMonitor) -> Values:
    about = run.state.about
    return {(about.out, about.modelset, about.precision, about.mode): 1}


def _partitions(run: RunMonitor) -> Values:
    state, all_partitions = run.state, run.state.about.partitions
    done = state.about.partitions_before + state.partitions_done
    failed, in_work = state.partitions_failed, run.in_work()
    waiting = max(0, all_partitions - done - failed - in_work)
    return {("done",): done, ("failed",): failed, ("in_work",): in_work, ("waiting",): waiting}


def _chunks(run: RunMonitor) -> Values:
    about, state = run.state.about, run.state
    done = about.chunks_before + state.chunks_done
    return {("planned",): about.chunks, ("done",): done, ("failed",): state.chunks_failed}


def _remaining(run: RunMonitor) -> Values:
    remaining_s = run.state.remaining_s(time.time())
    return {} if remaining_s is None else {(): remaining_s}


_Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]
_METRICS: tuple[tuple[_Kind, str, str, tuple[str, ...], Callable[[RunMonitor], Values]], ...] = (
    (GaugeMetricFamily, "run_info", "A run.", ("out", "modelset", "precision", "mode"), _info),
    (GaugeMetricFamily, "partitions", "Partitions of a run.", ("state",), _partitions),
    (GaugeMetricFamily, "run_chunks", "Chunks, or pieces, of a run.", ("state",), _chunks),
    (
        GaugeMetricFamily,
        "run_start_time_seconds",
        "When a run began to compute, since the epoch.",
        (),
        lambda run: {(): run.state.started},
    ),
    (GaugeMetricFamily, "run_remaining_seconds", "Estimated time to the end.", (), _remaining),
    (
        CounterMetricFamily,
        "run_frames",
        "Frames, or genes, that a run has scored.",
        (),
        lambda run: {(): run.state.scored},
    ),
    (
        CounterMetricFamily,
        "run_viral_frames",
        "Frames, or genes, that a run has called virus.",
        (),
        lambda run: {(): run.state.viral},
    ),
)
REGISTRY.register(_Runs())
