"""End to end: `virnuc_dask.run` on a generated metagenome, in this process and on workers.

The input are reads of 500 nt cut at random from the genomes of the demo, either strand, a tenth of
them repeated. The ways take turns, in an order that is reversed each time; the median of the turns
counts. Beside the whole run stands the time from the last model set loaded to the last partition
done, and where it went: stages, and the rest, which is what Dask adds. One worker computes with
the same threads as no cluster at all, so their difference is Dask's share. The last line is JSON.

`mini` reads genes of these reads, and frames where there are none; both count as frames here.
Finding them takes longer than its encoders. ``--random 8M`` measures a small DNABERT-S and that
ESM-2 of random weights on frames instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from virnuc_dask import load_settings, run
from virnuc_dask.lab.speed.machine import describe, versions
from virnuc_dask.lab.speed.memory import PeakMemory
from virnuc_dask.lab.speed.metagenome import as_fasta, cut_at_random
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES, write_modelset
from virnuc_dask.lab.speed.run_log import phases
from virnuc_dask.sequences.records import read_records

DEMO = Path(__file__).parents[1] / "tests" / "data" / "demo.fasta.gz"
LENGTH = 500
NONE = {"cluster.kind": "none"}
WAYS = {
    "none": NONE,
    "none_per_partition": NONE | {"persistent_models": False},
    "one_worker": {"cluster.kind": "cpu", "cluster.workers": 1},
    "one_worker_per_partition": {
        "cluster.kind": "cpu",
        "cluster.workers": 1,
        "persistent_models": False,
    },
    "two_workers": {"cluster.kind": "cpu", "cluster.workers": 2},
    "one_worker_two_threads": {
        "cluster.kind": "cpu",
        "cluster.workers": 1,
        "cluster.threads": 2,
    },
}
Figures = dict[str, float]


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (folder / "input.fa").open("w") as stream:
            genomes = list(read_records([str(DEMO)]))
            stream.writelines(as_fasta(cut_at_random(genomes, options.chunks, LENGTH)))
        model = "mini"
        if options.random:
            model = str(folder / f"random-{options.random}")
            sizes = DNABERT_S_SIZES[options.dnabert_s], ESM2_SIZES[options.random]
            write_modelset(Path(model), *sizes)
        turns = take_turns(folder, model, options)
    ways = {way: medians(measured) for way, measured in turns.items()}
    result = {
        "benchmark": "run",
        "input": {"genomes": DEMO.name, "chunks": options.chunks, "repeated": 0.1},
        "model": describe_model(options),
        "precision": options.precision or load_settings().precision,
        "partition_chunks": options.partition_chunks,
        "repeats": options.repeats,
        **ways,
        "dask": dask_share(turns),
        "machine": describe(),
        "versions": versions("distributed", "pyarrow"),
    }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def describe_model(options: argparse.Namespace) -> str:
    if not options.random:
        return "mini"
    return f"random weights: DNABERT-S {options.dnabert_s}, ESM-2 {options.random}"


def take_turns(folder: Path, model: str, options: argparse.Namespace) -> dict[str, list[Figures]]:
    ways = options.ways or list(WAYS)
    turns: dict[str, list[Figures]] = {way: [] for way in ways}
    for turn in range(options.repeats + 1):
        for way in ways[:: 1 if turn % 2 else -1]:
            flags = {
                "model": model,
                "precision": options.precision,
                "partition_chunks": options.partition_chunks,
                "cluster.threads": 1,
                "cluster.device": "cpu",
                "cluster.dashboard_port": 0,
            } | WAYS[way]
            figures = measure(folder, way, flags)
            if turn:  # the first one warms up
                turns[way].append(figures)
            kind = f"turn {turn}" if turn else "warming up"
            tell(f"{way}: {figures['whole_s']:.1f} s ({kind})")
    return turns


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


def medians(measured: list[Figures]) -> Figures:
    return {
        name: round(statistics.median(figures[name] for figures in measured), 3)
        for name in measured[0]
    }


def dask_share(turns: Mapping[str, list[Figures]]) -> Figures:
    """What Dask adds, by pairs of turns: medians of ratios, so that a noisy minute hits both.

    ``one_worker_over_none`` is the working time of one worker beside that of the same work in
    this process, ``two_workers_speedup`` how many times as fast two are as one,
    ``two_workers_over_two_threads`` how many times as fast they are as one worker of two threads.
    """

    def ratio(way: str, baseline: str, name: str = "working_s") -> float | None:
        if way not in turns or baseline not in turns:
            return None
        pairs = zip(turns[way], turns[baseline], strict=True)
        return round(statistics.median(a[name] / b[name] for a, b in pairs), 3)

    found = {
        "one_worker_over_none": ratio("one_worker", "none"),
        "one_worker_over_none_computing": ratio("one_worker", "none", "computing_s"),
        "two_workers_speedup": ratio("one_worker", "two_workers"),
        "two_workers_over_two_threads": ratio("one_worker_two_threads", "two_workers"),
        "per_partition_over_persistent": ratio("one_worker_per_partition", "one_worker"),
        "per_partition_over_persistent_none": ratio("none_per_partition", "none"),
    }
    return {name: value for name, value in found.items() if value is not None}


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--partition-chunks", type=int, help="default: by the encoders")
    parser.add_argument("--random", choices=ESM2_SIZES, help="ESM-2 of this size, random weights")
    parser.add_argument("--dnabert-s", choices=DNABERT_S_SIZES, default="small")
    parser.add_argument("--precision", help="of the encoders; default: the settings' own")
    parser.add_argument("--ways", nargs="*", choices=WAYS, help="only these")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
