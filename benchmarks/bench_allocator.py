"""What Dask's default for worker memory costs: ``MALLOC_TRIM_THRESHOLD_=65536`` against none.

Each turn is a fresh process with or without it, one thread: ESM-2 8M on random weights, and frames.
The two take turns; the median of the turns counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from virnuc_dask.lab.speed.machine import describe, versions

VARIABLE, DASKS_DEFAULT = "MALLOC_TRIM_THRESHOLD_", "65536"
RESIDUES, PEPTIDES, CHUNKS, TURNS = 166, 72, 1000, 5


def main() -> None:
    options = parse_options()
    if options.measure:
        print(json.dumps(measure()))
        return
    turns: dict[str, list[dict[str, float]]] = {"dasks_default": [], "without": []}
    for _ in range(options.repeats):
        turns["dasks_default"].append(measure_with({VARIABLE: DASKS_DEFAULT}))
        turns["without"].append(measure_with({}))
    result: dict[str, object] = {"benchmark": "allocator", "repeats": options.repeats}
    medians = {
        way: {name: statistics.median(turn[name] for turn in measured) for name in measured[0]}
        for way, measured in turns.items()
    }
    ratio = {
        name: round(rate / medians["dasks_default"][name], 2)
        for name, rate in medians["without"].items()
    }
    result |= medians | {"ratio": ratio, "machine": describe(), "versions": versions()}
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def measure_with(variables: dict[str, str]) -> dict[str, float]:
    """Rates of a fresh process with these variables in its environment."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(
        [sys.executable, __file__, "--measure"],
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def measure() -> dict[str, float]:
    import torch

    from virnuc_dask.encoders.encoder import Placement
    from virnuc_dask.encoders.esm2 import Esm2, Esm2Module, Esm2Sizes
    from virnuc_dask.sequences.frames import find_frames

    torch.set_num_threads(1)
    draw = random.Random(1)
    peptides = ["".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=RESIDUES)) for _ in range(PEPTIDES)]
    chunks = ["".join(draw.choices("ACGT", k=500)) for _ in range(CHUNKS)]
    rates = {"frames_mbp_per_s": 500 * CHUNKS / 1e6 / median_s(lambda: find_frames(chunks))}
    for precision in ("fp32", "bf16"):
        placement = Placement(precision=precision)
        module = Esm2Module(Esm2Sizes(6, 320, 20)).to(placement.dtype).requires_grad_(False)
        module.inverse_frequencies = torch.rand(8)
        encoder = Esm2(module.eval(), placement)
        spent_s = median_s(lambda encoder=encoder: encoder.embed(peptides))
        rates[f"esm2_8M_{precision}_tokens_per_s"] = PEPTIDES * (RESIDUES + 2) / spent_s
    return {name: round(rate, 1) for name, rate in rates.items()}


def median_s(work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(TURNS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
