"""An hour on one cluster: run after run of generated DNA, and the memory of every process.

Two workers as a run starts them; `virnuc_dask.run` on the same input again and again, each time
into a new folder, until the time is over. Every run must account for every chunk
and give the same bytes. Memory is looked at every few seconds; what counts is how much more a
process holds in the last quarter of the time than in the second (the first warms up). The last
line is JSON.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from distributed import Client
from measured import options_of, report, tell, write_metagenome

from virnuc_dask import Run, Settings, load_settings, run
from virnuc_dask.cluster.connect import connect

CHUNK_LENGTH = 500
TWO = {"kind": "cpu", "workers": 2, "threads": 1, "dashboard_port": 0}
Series = dict[str, list[float]]


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--chunks", type=int, default=200_000, help="a run")
    parser.add_argument("--partition-chunks", type=int, default=1000)
    parser.add_argument("--interval-s", type=float, default=5)
    parser.add_argument("--scratch", type=Path, help="where input and run folders lie meanwhile")
    options = parser.parse_args()
    settings = load_settings(
        flags={"model": "mini", "features": False, "partition_chunks": options.partition_chunks}
    )
    with (
        tempfile.TemporaryDirectory(dir=options.scratch) as scratch,
        cluster() as (client, processes),
    ):
        source = write_metagenome(Path(scratch) / "input.fa", options.chunks, CHUNK_LENGTH, 0.0)
        start = time.perf_counter()
        with watched(processes, options.interval_s) as memory:
            runs = list(run_until(start + 60 * options.minutes, source, settings, client))
        elapsed_s = time.perf_counter() - start
    totals = {name: sum(done[name] for done in runs) for name in ("frames", "partitions")}
    results = {
        "benchmark": "endurance",
        "minutes": round(elapsed_s / 60, 1),
        "runs": len(runs),
        "chunks_a_run": options.chunks,
        "chunks": options.chunks * len(runs),
        **totals,
        "failed_partitions": sum(done["failed"] for done in runs),
        "different_results": len({done["digest"] for done in runs}),
        "memory": {name: described(values) for name, values in memory.items()},
        "interval_s": options.interval_s,
    }
    report(results, options, "distributed", "pyarrow")


def run_until(
    deadline: float, source: Path, settings: Settings, client: Client
) -> Iterator[dict[str, int | str]]:
    """Runs that have begun before ``deadline``; each must account for every chunk."""
    while time.perf_counter() < deadline:
        folder = source.parent / "out"
        done = run([source], folder, settings=settings, client=client)
        done.require_complete()
        yield counted(done)
        shutil.rmtree(folder)
        tell(f"{done.summary['chunks']} chunks in {done.summary['elapsed_s']} s")


def counted(done: Run) -> dict[str, int | str]:
    partitions = done.summary["partitions"]
    chunks = done.dataset("chunks").count_rows()
    if chunks != done.summary["chunks"]:
        raise SystemExit(f"{chunks} chunks came out of {done.summary['chunks']}.")
    content = (done.folder / "prediction_results.txt").read_bytes()
    return {
        "frames": done.summary["frames"],
        "partitions": partitions["computed"],
        "failed": partitions["failed"],
        "digest": hashlib.sha256(content).hexdigest(),
    }


@contextmanager
def cluster() -> Iterator[tuple[Client, dict[str, psutil.Process]]]:
    """Two workers of one thread, started as a run starts them; and the processes to look at."""
    settings = load_settings(flags={f"cluster.{name}": value for name, value in TWO.items()})
    with connect(settings.cluster, weight_bytes=0) as connection:
        client = connection.client
        assert client is not None
        workers = {
            f"worker_{number}": psutil.Process(pid)
            for number, pid in enumerate(client.run(os.getpid).values())
        }
        yield client, {"client_and_scheduler": psutil.Process(), **workers}


@contextmanager
def watched(processes: dict[str, psutil.Process], interval_s: float) -> Iterator[Series]:
    """Resident memory of each process in megabytes, looked at every ``interval_s``."""
    series: Series = {name: [] for name in processes}
    over = threading.Event()

    def look() -> None:
        while not over.wait(interval_s):
            for name, process in processes.items():
                with suppress(psutil.NoSuchProcess):
                    series[name].append(process.memory_info().rss / 1e6)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield series
    finally:
        over.set()
        thread.join()


def described(values: list[float]) -> dict[str, float | list[float]]:
    """Medians of the second and the last quarter, their difference, the peak, thirty points."""
    quarter = max(1, len(values) // 4)
    early = statistics.median(values[quarter : 2 * quarter] or values)
    late = statistics.median(values[-quarter:])
    return {
        "second_quarter_mb": round(early, 1),
        "last_quarter_mb": round(late, 1),
        "growth_mb": round(late - early, 1),
        "peak_mb": round(max(values), 1),
        "series_mb": [round(value) for value in values[:: max(1, len(values) // 30)]],
    }


if __name__ == "__main__":
    main()
