"""End to end: `virnuc_dask.run` on a drawn metagenome, in this process and on workers.

The ways take turns, in an order that is reversed each time; the median of the turns counts. Beside
the whole run stands the time from the last model set loaded to the last partition done, and where
it went: stages, and the rest, which is what Dask adds. One worker computes with the same threads as
no cluster at all, so their difference is Dask's share. The last line is JSON.

`mini` reads genes of these reads, and frames where there are none; both count as frames here.
``--random 8M`` measures a small DNABERT-S and that ESM-2 of random weights on frames instead.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from measured import Figures, medians, options_of, ratio, report, take_turns, write_metagenome

from virnuc_dask import load_settings, run
from virnuc_dask.lab.speed.machine import PeakMemory
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES, write_modelset
from virnuc_dask.lab.speed.run_log import phases

LENGTH = 500
ONE = {"cluster.kind": "cpu", "cluster.workers": 1}
WAYS = {
    "none": {"cluster.kind": "none"},
    "one_worker": ONE,
    "two_workers": ONE | {"cluster.workers": 2},
    "one_worker_two_threads": ONE | {"cluster.threads": 2},
}
# Two ways, which of them counts as 1, and by what time.
SHARES = {
    "one_worker_over_none": ("one_worker", "none", "working_s"),
    "one_worker_over_none_computing": ("one_worker", "none", "computing_s"),
    "two_workers_speedup": ("one_worker", "two_workers", "working_s"),
    "two_workers_over_two_threads": ("one_worker_two_threads", "two_workers", "working_s"),
}


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_metagenome(folder / "input.fa", options.chunks, LENGTH)
        flags = {
            "model": model_of(options, folder),
            "precision": options.precision,
            "partition_chunks": options.partition_chunks,
            "cluster.threads": 1,
            "cluster.device": "cpu",
            "cluster.dashboard_port": 0,
        }
        ways = options.ways or WAYS
        turns = take_turns(
            {way: partial(measure, folder, way, flags | WAYS[way]) for way in ways}, options.repeats
        )
    random = f"random weights: DNABERT-S {options.dnabert_s}, ESM-2 {options.random}"
    result = {
        "benchmark": "run",
        "chunks": options.chunks,
        "model": random if options.random else "mini",
        "precision": options.precision or load_settings().precision,
        "partition_chunks": options.partition_chunks,
        **{way: medians(measured) for way, measured in turns.items()},
        "dask": dask_share(turns),
    }
    report(result, options, "distributed", "pyarrow")


def model_of(options: argparse.Namespace, folder: Path) -> str:
    if not options.random:
        return "mini"
    sizes = DNABERT_S_SIZES[options.dnabert_s], ESM2_SIZES[options.random]
    write_modelset(folder / "random", *sizes)
    return str(folder / "random")


def measure(folder: Path, way: str, flags: Mapping[str, object]) -> Figures:
    """Seconds, frames a second and memory of one run, whose folder is removed again."""
    out = folder / way
    with PeakMemory(interval_s=0.2) as memory:
        done = run([folder / "input.fa"], out, settings=load_settings(flags=flags))
    done.require_complete()
    spent, frames = phases(done.folder, done.summary), done.summary["frames"]
    shutil.rmtree(out)
    return {
        "frames": frames,
        "frames_per_s": frames / spent["working_s"],
        "frames_per_s_whole": frames / spent["whole_s"],
        **spent,
        **{f"stage_{stage}_s": s for stage, s in done.summary["stage_s"].items()},
        "peak_ram_bytes": memory.ram_bytes,
    }


def dask_share(turns: Mapping[str, list[Figures]]) -> Figures:
    """What Dask adds: medians of the ratios of two ways' times, turn by turn, as `SHARES` says."""
    return {
        name: ratio(turns[way], turns[other], time)
        for name, (way, other, time) in SHARES.items()
        if way in turns and other in turns
    }


def parse_options() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--partition-chunks", type=int, help="default: by the encoders")
    parser.add_argument("--random", choices=ESM2_SIZES, help="ESM-2 of this size, random weights")
    parser.add_argument("--dnabert-s", choices=DNABERT_S_SIZES, default="small")
    parser.add_argument("--precision", help="of the encoders; default: the settings' own")
    parser.add_argument("--ways", nargs="*", choices=WAYS, help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
