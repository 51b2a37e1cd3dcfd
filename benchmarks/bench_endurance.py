"""An hour on one cluster: run after run of generated DNA, and the memory of every process.

Two workers as a run starts them; `virnuc_dask.run` on the same input again and again, each time
into a new folder, until the time is over. Every run must account for every chunk and give the same
bytes. Memory is that of the client and of each worker at the end of each run; what counts is how
much more a process holds in the last quarter of the runs than in the second (the first warms up).
The last line is JSON.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measured import Figures, options_of, report, resident_bytes, tell, write_metagenome

from virnuc_dask import Run, load_settings, run
from virnuc_dask.cluster.connect import connect
from virnuc_dask.lab.speed.run_log import DONE, read_events

CHUNK_LENGTH = 500
TWO = {"kind": "cpu", "workers": 2, "threads": 1, "dashboard_port": 0}


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--chunks", type=int, default=200_000, help="a run")
    parser.add_argument("--partition-chunks", type=int, default=1000)
    parser.add_argument("--scratch", type=Path, help="where input and run folders lie meanwhile")
    options = parser.parse_args()
    flags = {"model": "mini", "features": False, "partition_chunks": options.partition_chunks}
    settings = load_settings(flags=flags | {f"cluster.{name}": v for name, v in TWO.items()})
    with (
        tempfile.TemporaryDirectory(dir=options.scratch) as scratch,
        connect(settings.cluster, weight_bytes=0) as connection,
    ):
        folder, start = Path(scratch), time.perf_counter()
        write_metagenome(folder / "input.fa", options.chunks, CHUNK_LENGTH)
        way = {"settings": settings, "client": connection.client}
        runs = list(run_until(start + 60 * options.minutes, folder, way))
        minutes = (time.perf_counter() - start) / 60
    processes = sorted({name for done in runs for name in done["memory_mb"]})
    results = {
        "benchmark": "endurance",
        "minutes": round(minutes, 1),
        "runs": len(runs),
        "chunks": options.chunks * len(runs),
        "frames": sum(done["frames"] for done in runs),
        "different_results": len({done["digest"] for done in runs}),
        "memory": {
            name: described([done["memory_mb"].get(name, 0) for done in runs]) for name in processes
        },
    }
    report(results, options, "distributed", "pyarrow")


def run_until(deadline: float, folder: Path, way: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Runs that have begun before ``deadline``; each must account for every chunk."""
    while time.perf_counter() < deadline:
        done = run([folder / "input.fa"], folder / "out", **way)
        done.require_complete()
        yield counted(done)
        shutil.rmtree(folder / "out")
        tell(f"{done.summary['chunks']} chunks in {done.summary['elapsed_s']} s")


def counted(done: Run) -> dict[str, Any]:
    chunks = done.dataset("chunks").count_rows()
    if chunks != done.summary["chunks"]:
        raise SystemExit(f"{chunks} chunks came out of {done.summary['chunks']}.")
    content = (done.folder / "prediction_results.txt").read_bytes()
    events = [event for event in read_events(done.folder) if event["event"] == DONE]
    held = {event["worker"]: event["memory_after_bytes"] / 1e6 for event in events}
    return {
        "frames": done.summary["frames"],
        "digest": hashlib.sha256(content).hexdigest(),
        "memory_mb": held | {"client_and_scheduler": resident_bytes() / 1e6},
    }


def described(values: list[float]) -> Figures:
    """Medians of the second and the last quarter, their difference, the peak."""
    quarter = max(1, len(values) // 4)
    early = statistics.median(values[quarter : 2 * quarter] or values)
    late = statistics.median(values[-quarter:])
    found = {"second_quarter_mb": early, "last_quarter_mb": late, "growth_mb": late - early}
    return {name: round(value, 1) for name, value in (found | {"peak_mb": max(values)}).items()}


if __name__ == "__main__":
    main()
