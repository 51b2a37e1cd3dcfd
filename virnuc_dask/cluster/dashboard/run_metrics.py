"""What the scheduler tells Prometheus of each run, at ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from virnuc_dask.cluster.dashboard.run_state import RunState

SHOWN: list[RunState] = []  # runs of this process's schedulers

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


def _info(run: RunState) -> Values:
    about = run.about
    return {(about.out, about.modelset, about.precision, about.mode): 1}


def _partitions(run: RunState) -> Values:
    done = run.about.partitions_before + run.partitions_done
    failed, in_work = run.partitions_failed, run.in_work()
    waiting = max(0, run.about.partitions - done - failed - in_work)
    return {("done",): done, ("failed",): failed, ("in_work",): in_work, ("waiting",): waiting}


def _chunks(run: RunState) -> Values:
    done = run.about.chunks_before + run.chunks_done
    return {("planned",): run.about.chunks, ("done",): done, ("failed",): run.chunks_failed}


def _remaining(run: RunState) -> Values:
    remaining_s = run.remaining_s(time.time())
    return {} if remaining_s is None else {(): remaining_s}


_Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]
_METRICS: tuple[tuple[_Kind, str, str, tuple[str, ...], Callable[[RunState], Values]], ...] = (
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
        lambda run: {(): run.scored},
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
