"""The engine alone: what a partition costs when its stages do nothing, and what the client holds.

A plan of so many partitions is computed as a run does it: the same window, the same two tasks a
partition, the same receipts, log lines and page on the dashboard; but the stages sleep. All
workers, the scheduler and the client are threads of one process and share its one interpreter lock,
so that the overhead is an upper bound: on a cluster workers have processes of their own. Every
point is measured in a fresh process.

``overhead_ms`` is the time a partition takes beyond its sleep, spread over the workers; ``cpu_ms``
the processor time of client, scheduler and workers together, which other programs on the machine
do not lengthen; ``busy_cpu_ms`` is that without what the idle cluster takes for its heartbeats and
profiles (``idle_share`` of a core), ``submitting_ms`` the part of the client's own thread;
``client_ms`` the time of the client's other work, with nothing behind it (plan, fingerprints, log).
``tenths`` are seconds and memory after each tenth of the partitions: whether either one grows.
The last line is JSON.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import dask
from dask.delayed import Delayed, delayed
from distributed import Client, LocalCluster
from measured import Figures, options_of, report, resident_bytes, tell

from virnuc_dask.cluster.connect import FOR_SCHEDULER, FOR_WORKERS, Connection
from virnuc_dask.cluster.dashboard.monitor import watched
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.retries import Retries
from virnuc_dask.cluster.submit import execute_on
from virnuc_dask.cluster.worker_watch import WorkerWatch
from virnuc_dask.config import ClusterSettings
from virnuc_dask.lab.speed.process import in_own_process
from virnuc_dask.stages.receipt import Receipt, Tally
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import Counts, Decisions, PartitionTask, Plan, PlannedPartition

# What each worker has in a process of its own elsewhere, and 64 would fill this one with: a profile
# of each minute, an hour of its load, a look at both many times a second.
IN_ONE_PROCESS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.log-length": 60,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.admin.tick.interval": "1s",
}
CHUNKS = 1000  # a partition
IN_FLIGHT = 3  # partitions a worker, as a run's default
STAGES = ("extract", "predict")


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--partitions", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--sleep-s", type=float, default=0.0, help="of both stages of a partition")
    options = parser.parse_args()
    points: list[Figures] = []
    for partitions in options.partitions:
        for workers in options.workers:
            points.append(in_own_process(measure, workers, partitions, options.sleep_s))
            about = {"sleep_s": options.sleep_s, "partitions_in_flight": IN_FLIGHT}
            # After every point: the large ones take an hour, and can be interrupted.
            report({"benchmark": "scaling", **about, "points": points}, options, "distributed")


def measure(workers: int, partitions: int, sleep_s: float) -> Figures:
    """One point: a run of ``partitions`` on ``workers`` whose two stages take ``sleep_s``."""
    with tempfile.TemporaryDirectory() as scratch:
        before, start = resident_bytes(), time.perf_counter()
        plan = make_plan(Path(scratch), partitions)
        tasks = [task for task in plan.tasks() if not task.is_done]
        planning_s, planned = time.perf_counter() - start, resident_bytes()
        with Journal.opened(Path(scratch) / "log") as journal:
            start = time.perf_counter()
            for task in tasks:
                note(journal, sleep_stage(task, 0.0))
            logging_s = time.perf_counter() - start
            with local_cluster(workers) as cluster, Client(cluster) as client:
                client.wait_for_workers(workers)
                started = resident_bytes()
                idle = idle_share()
                before_s = time.process_time(), time.thread_time()
                with watched(Connection(client, "cpu", ClusterSettings()), journal) as connection:
                    tenths = compute(client, tasks, sleep_s, journal, connection.topic)
                all_s, own_s = time.process_time() - before_s[0], time.thread_time() - before_s[1]
    elapsed_s, ideal_s = tenths[-1]["at_s"], partitions * sleep_s / min(workers, partitions)
    point = {
        "workers": workers,
        "partitions": partitions,
        "elapsed_s": round(elapsed_s, 3),
        "ideal_s": round(ideal_s, 3),
        "overhead_ms": round(1000 * (elapsed_s - ideal_s) / partitions, 3),
        "cpu_ms": round(1000 * all_s / partitions, 3),
        "idle_share": round(idle, 3),
        "busy_cpu_ms": round(1000 * max(0.0, all_s - idle * elapsed_s) / partitions, 3),
        "submitting_ms": round(1000 * own_s / partitions, 3),
        "partitions_per_s": round(partitions / elapsed_s, 1),
        "client_ms": round(1000 * (planning_s + logging_s) / partitions, 3),
        "plan_bytes_per_partition": round((planned - before) / partitions),
        "memory_started_mb": round(started / 1e6, 1),
        "memory_peak_mb": max(tenth["memory_mb"] for tenth in tenths),
        "tenths": tenths,
    }
    tell(f"{workers} workers, {partitions:,} partitions: {point}")
    return point


def compute(
    client: Client, tasks: list[PartitionTask], sleep_s: float, journal: Journal, topic: str
) -> list[Figures]:
    """Seconds since the start, and the memory of this process, after each tenth of the run."""
    start, tenths, tally = time.perf_counter(), list[Figures](), Tally()
    receipts = execute_on(
        client,
        Retries(tasks),
        lambda task: chained(task, sleep_s, topic),
        WorkerWatch(client, journal, timeout_s=60.0),
        in_flight=IN_FLIGHT,
    )
    for done, receipt in enumerate(receipts, start=1):
        assert not receipt.failures, receipt
        tally.add(receipt)
        note(journal, receipt)
        if done * 10 // len(tasks) > len(tenths):
            at_s, memory_mb = time.perf_counter() - start, resident_bytes() / 1e6
            tenths.append({"at_s": round(at_s, 3), "memory_mb": round(memory_mb, 1)})
            tell(f"{done:,} of {len(tasks):,} partitions: {tenths[-1]}")
    tally.require_all(tasks)
    return tenths


def idle_share(wait_s: float = 2.0) -> float:
    """Cores that the idle cluster keeps busy: heartbeats and profiles of all those workers."""
    before_s = time.process_time()
    time.sleep(wait_s)
    return (time.process_time() - before_s) / wait_s


def chained(task: PartitionTask, sleep_s: float, topic: str) -> Delayed:
    """A partition's two tasks, as `virnuc_dask.cluster.graph.partition_graph` builds them."""
    key = f"{task.name}-{uuid4().hex[:12]}-virnuc-models-{0:012x}-fp32-{topic}"
    extracted = delayed(sleep_stage, pure=False)(task, sleep_s / 2, dask_key_name=f"extract-{key}")
    last: Delayed = delayed(sleep_again, pure=False)(
        task, extracted, sleep_s / 2, dask_key_name=f"predict-{key}"
    )
    return last


def sleep_stage(task: PartitionTask, sleep_s: float) -> Receipt:
    """In place of extracting."""
    time.sleep(sleep_s)
    spent = dict.fromkeys(STAGES, sleep_s)
    return Receipt(task.index, task.chunks, task.chunks, 0, 0, spent, worker="w")


def sleep_again(task: PartitionTask, extracted: Receipt, sleep_s: float) -> Receipt:
    """In place of predicting."""
    time.sleep(sleep_s)
    return extracted


def note(journal: Journal, receipt: Receipt) -> None:
    """What a run writes for each partition."""
    total_s = round(sum(receipt.elapsed_s.values()), 3)
    event = {"event": "partition_done", **asdict(receipt), "total_s": total_s}
    journal.write({**event, "mode": "persistent"})


def make_plan(folder: Path, partitions: int) -> Plan:
    digest = f"{0:032x}"
    return Plan(
        RunFolder(folder),
        Decisions(digest, 500, CHUNKS, "fp32", digest, digest),
        Counts(1, partitions * CHUNKS, partitions * CHUNKS * 500, 0, 0),
        tuple(PlannedPartition(i, CHUNKS, f"{i:032x}") for i in range(partitions)),
    )


def local_cluster(workers: int) -> LocalCluster:
    """Workers as threads of this process, one task at a time each, set up as a run sets up its."""
    with dask.config.set(FOR_WORKERS | FOR_SCHEDULER | IN_ONE_PROCESS):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=False,
            memory_limit=0,  # each would hold the memory of all against its own limit
            dashboard_address="127.0.0.1:0",
        )


if __name__ == "__main__":
    main()
