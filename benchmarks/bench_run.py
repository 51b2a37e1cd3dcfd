"""End to end: `virnuc_dask.run` on the demo input, in this process and on one and two workers.

The demo input is repeated under new names until it takes long enough to time. The ways take turns;
the median of the turns counts. Beside the whole run, start-up included, stands the time from the
first partition's start to the last one's end, and what each stage took. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import datetime
from pathlib import Path

from virnuc_dask import Run, Settings, load_settings, run
from virnuc_dask.measuring.machine import describe, versions
from virnuc_dask.sequences.records import read_records

DEMO = Path(__file__).parents[1] / "tests" / "data" / "demo.fasta.gz"
MODEL = {"model": "mini", "cluster.dashboard_port": 0}
WAYS = {
    "none": {"cluster.kind": "none", "cluster.threads": 1},
    "one_worker": {"cluster.kind": "cpu", "cluster.workers": 1, "cluster.threads": 1},
    "two_workers": {"cluster.kind": "cpu", "cluster.workers": 2, "cluster.threads": 1},
}


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_copies(folder / "input.fa", options.copies)
        turns: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for turn in range(options.repeats + 1):
            for way, flags in WAYS.items():
                figures = measure(folder, turn, way, load_settings(flags={**flags, **MODEL}))
                if turn:  # the first one warms up
                    turns[way].append(figures)
    result = {
        "benchmark": "run",
        "input": {"file": DEMO.name, "copies": options.copies},
        "repeats": options.repeats,
        **{way: medians(measured) for way, measured in turns.items()},
        "machine": describe(),
        "versions": versions("distributed", "pyarrow"),
    }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def measure(folder: Path, turn: int, way: str, settings: Settings) -> dict[str, float]:
    """Seconds and frames a second of one run."""
    done = run([folder / "input.fa"], folder / f"{way}-{turn}", settings=settings)
    working_s = seconds_of_work(done)
    frames = done.summary["frames"]
    stages = {f"{stage}_s": spent for stage, spent in done.summary["stage_s"].items()}
    return {
        "frames": frames,
        "whole_s": done.summary["elapsed_s"],
        "frames_per_s_whole": frames / done.summary["elapsed_s"],
        "working_s": working_s,
        "frames_per_s_working": frames / working_s,
        **stages,
    }


def seconds_of_work(done: Run) -> float:
    """From the last model set loaded to the last partition done."""
    log = (done.folder / "run.log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in log]
    times = {
        kind: max(datetime.fromisoformat(e["time"]) for e in events if e["event"] == kind)
        for kind in ("modelset_loaded", "partition_done")
    }
    return (times["partition_done"] - times["modelset_loaded"]).total_seconds()


def medians(measured: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(statistics.median(figures[name] for figures in measured), 3)
        for name in measured[0]
    }


def write_copies(path: Path, copies: int) -> None:
    records = list(read_records([str(DEMO)]))
    with path.open("w") as stream:
        for copy in range(copies):
            stream.writelines(f">{record.id}_{copy}\n{record.dna}\n" for record in records)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=50, help="of the demo input, 412 kb each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
