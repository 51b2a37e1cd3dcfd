"""What the scheduler tells Prometheus of each run, at ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from virnuc_dask.cluster.dashboard.history import RunHistory

SHOWN: list[RunHistory] = []  # runs of this process's schedulers

Values = Mapping[tuple[str, ...], float]  # by the labels besides the run


class _Runs(Collector):
    """Registered once a process, whatever runs come and go."""

    def collect(self) -> Iterator[Metric]:
        """All metrics, also where there is no run."""
        for kind, name, text, labels, values in _METRICS:
            metric = kind(f"virnuc_{name}", text, labels=["run", *labels])
            for run in list(SHOWN):
                for labelled, value in values(run).items():
                    metric.add_metric([run.run, *labelled], value)
            yield metric


def _info(run: RunHistory) -> Values:
    begun, plan = run.last.get("run_started", {}), run.planned
    if not plan:
        return {}
    return {(begun.get("out", ""), plan["modelset"], plan["precision"], plan["mode"]): 1}


def _partitions(run: RunHistory) -> Values:
    done, failed, in_work = run.partitions, run.partitions_failed, run.in_work()
    waiting = max(0, run.planned.get("partitions", 0) - done - failed - in_work)
    return {("done",): done, ("failed",): failed, ("in_work",): in_work, ("waiting",): waiting}


def _chunks(run: RunHistory) -> Values:
    planned, failed = run.chunks_planned, run.chunks_failed
    return {("planned",): planned, ("done",): run.chunks, ("failed",): failed}


def _remaining(run: RunHistory) -> Values:
    left_s = run.left_s(time.time())
    return {} if left_s is None else {(): left_s}


_Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]
_METRICS: tuple[tuple[_Kind, str, str, tuple[str, ...], Callable[[RunHistory], Values]], ...] = (
    (GaugeMetricFamily, "run_info", "A run.", ("out", "modelset", "precision", "mode"), _info),
    (GaugeMetricFamily, "partitions", "Partitions of a run.", ("state",), _partitions),
    (GaugeMetricFamily, "run_chunks", "Chunks, or pieces, of a run.", ("state",), _chunks),
    (
        GaugeMetricFamily,
        "run_start_time_seconds",
        "When a run began to compute, since the epoch.",
        (),
        lambda run: {(): run.started},
    ),
    (GaugeMetricFamily, "run_remaining_seconds", "Estimated time to the end.", (), _remaining),
    (
        CounterMetricFamily,
        "run_frames",
        "Frames, or genes, that a run has scored.",
        (),
        lambda run: {(): run.frames},
    ),
    (
        CounterMetricFamily,
        "run_viral_frames",
        "Frames, or genes, that a run has called virus.",
        (),
        lambda run: {(): run.viral},
    ),
)
REGISTRY.register(_Runs())
