"""What models that stay loaded save: whole runs with them, and loading for every partition.

For `mini` and for ESM-2 of several sizes with DNABERT-S (117M), random weights: the same input in
few and in many partitions, on one and on two workers of one thread. Each pair of runs must leave
the same bytes. Told are the seconds of the whole run, the share of the workers' time that loading
took, and the workers' memory after their first and their last partition. The last line is JSON.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from measured import options_of, report, tell, write_metagenome

from virnuc_dask import load_settings, run
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES, write_modelset
from virnuc_dask.lab.speed.run_log import DONE, LOADED, read_events

LENGTH = 500
FIXED = {"cluster.kind": "cpu", "cluster.threads": 1, "cluster.dashboard_port": 0}
MODES = {"persistent": True, "per_partition": False}
RESULTS = ("prediction_results.txt", "contigs.tsv", "chunks.parquet")


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    choices = ["mini", *ESM2_SIZES]
    parser.add_argument(
        "--models", nargs="*", choices=choices, default=["mini", "8M", "35M", "150M"]
    )
    parser.add_argument("--dnabert-s", choices=DNABERT_S_SIZES, default="117M")
    parser.add_argument("--chunks", type=int, default=200, help="of an input for transformers")
    parser.add_argument("--mini-chunks", type=int, default=20_000)
    parser.add_argument("--partitions", type=int, nargs="*", default=[10, 50])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for model in options.models:
            name = str(folder / model) if model in ESM2_SIZES else model
            if model in ESM2_SIZES:
                write_modelset(Path(name), DNABERT_S_SIZES[options.dnabert_s], ESM2_SIZES[model])
            chunks = options.chunks if model in ESM2_SIZES else options.mini_chunks
            write_metagenome(folder / "input.fa", chunks, LENGTH)
            for partitions, workers in product(options.partitions, options.workers):
                flags = {"model": name, "partition_chunks": -(-chunks // partitions)}
                rows.append(
                    {"model": model, "chunks": chunks, "partitions": partitions, "workers": workers}
                    | compare(folder, flags | {"cluster.workers": workers})
                )
                tell(str(rows[-1]))
                result = {"benchmark": "persistence", "dnabert_s": options.dnabert_s, "runs": rows}
                # After every row: what was measured stays, whatever happens next.
                report(result, options, "distributed")


def compare(folder: Path, flags: Mapping[str, object]) -> dict[str, Any]:
    """Both modes over the same input, and how many times as fast the one is as the other."""
    measured = {
        mode: measure(folder, dict(flags) | {"persistent_models": stays})
        for mode, stays in MODES.items()
    }
    digests = {figures.pop("digest") for figures in measured.values()}
    if len(digests) != 1:
        raise ValueError(f"the modes differ in their results: {flags}")
    ratio = measured["per_partition"]["whole_s"] / measured["persistent"]["whole_s"]
    return {**measured, "per_partition_over_persistent": round(ratio, 3), "same_bytes": True}


def measure(folder: Path, flags: Mapping[str, object]) -> dict[str, Any]:
    """One run: seconds, share of the workers' time spent on loading, memory of the workers."""
    out = folder / "out"
    done = run(folder / "input.fa", out, settings=load_settings(flags=FIXED | dict(flags)))
    done.require_complete()
    events, whole_s = read_events(out), float(done.summary["elapsed_s"])
    digest = hashlib.sha256(b"".join((out / name).read_bytes() for name in RESULTS)).hexdigest()
    shutil.rmtree(out)
    loads = [event for event in events if event["event"] == LOADED]
    loading_s = sum(event["elapsed_s"] for event in loads)
    workers = int(done.summary["cluster"]["workers"])
    return {
        "whole_s": whole_s,
        "loads": len(loads),
        "loading_s": round(loading_s, 3),
        "loading_share": round(loading_s / (workers * whole_s), 4),
        "memory_bytes": memory_by_worker(events),
        "digest": digest,
    }


def memory_by_worker(events: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Memory of each worker after its first and after its last partition."""
    found: dict[str, list[int]] = {}
    for event in events:
        if event["event"] == DONE:
            held = found.setdefault(event["worker"], [event["memory_after_bytes"]] * 2)
            held[1] = event["memory_after_bytes"]
    return found


if __name__ == "__main__":
    main()
