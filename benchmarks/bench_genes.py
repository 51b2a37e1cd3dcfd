"""Gene callers on one core: megabases by processor time, and how far they agree.

pyrodigal-gv with all of its models, with the 24 and the 16 that it chooses most often (and one for
each other genetic code), and our own fast caller take turns on the same contigs, in an order that
is reversed each time; the medians of the turns count. Agreement is with pyrodigal-gv and all
models: of 3' ends (precision, recall), and of starts where 3' ends agree. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from virnuc_dask.lab.speed.machine import describe, versions
from virnuc_dask.sequences.genes import FAST, PYRODIGAL, Genes, gene_caller
from virnuc_dask.sequences.records import read_records

DEMO = Path(__file__).parents[1] / "tests" / "data" / "demo.fasta.gz"
CHOSEN_16 = (0, 5, 6, 11, 13, 19, 20, 25, 36, 39, 40, 47, 49, 55, 57, 59)
CHOSEN_24 = tuple(sorted((*CHOSEN_16, 9, 16, 17, 44, 48, 52, 58, 60)))
CALLERS = {
    "pyrodigal-gv, 62 models": (PYRODIGAL, None),
    "pyrodigal-gv, 24 models": (PYRODIGAL, CHOSEN_24),
    "pyrodigal-gv, 16 models": (PYRODIGAL, CHOSEN_16),
    "fast": (FAST, None),
}


def main() -> None:
    options = parse_options()
    machine = describe()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    dna = [record.dna for record in read_records(list(map(str, options.inputs)))]
    dna = [piece for whole in dna for piece in cut(whole, options.length)]
    found, cpu_s = take_turns(dna, options.repeats)
    megabases = sum(map(len, dna)) / 1e6
    reference = found[next(iter(CALLERS))]
    result = {
        "benchmark": "genes",
        "contigs": len(dna),
        "megabases": round(megabases, 3),
        "repeats": options.repeats,
        "callers": {
            name: {
                "mbp_per_cpu_s": round(megabases / cpu_s[name], 2),
                **agreement(found[name], reference),
            }
            for name in CALLERS
        },
        "machine": machine,
        "versions": versions("pyrodigal", "pyrodigal-gv", "numpy"),
    }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="*", type=Path, default=[DEMO])
    parser.add_argument("--length", type=int, help="cut contigs into so many nt")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each caller")
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
    return parser.parse_args()


def cut(dna: str, length_nt: int | None) -> list[str]:
    if length_nt is None:
        return [dna]
    ends = range(length_nt, len(dna) + 1, length_nt)
    return [dna[end - length_nt : end] for end in ends]


def take_turns(dna: list[str], repeats: int) -> tuple[dict[str, Genes], dict[str, float]]:
    callers = {name: gene_caller(*how) for name, how in CALLERS.items()}
    found, seconds = {}, {name: [] for name in callers}
    for turn in range(repeats):
        for name in list(callers)[:: -1 if turn % 2 else 1]:
            before = time.process_time()
            found[name] = callers[name].find(dna)
            seconds[name].append(time.process_time() - before)
    return found, {name: statistics.median(taken) for name, taken in seconds.items()}


def agreement(found: Genes, reference: Genes) -> dict[str, float]:
    """Of 3' ends, and of starts where these agree."""
    ours, theirs = ends(found), ends(reference)
    both = ours.keys() & theirs.keys()
    same = sum(ours[key] == theirs[key] for key in both)
    return {
        "genes": len(found),
        "precision": round(len(both) / max(1, len(ours)), 4),
        "recall": round(len(both) / max(1, len(theirs)), 4),
        "same_start": round(same / max(1, len(both)), 4),
    }


def ends(genes: Genes) -> dict[tuple[int, int, int], int]:
    """(sequence, 3' end, strand) → 5' end."""
    forward = genes.strand > 0
    three = np.where(forward, genes.end, genes.start)
    five = np.where(forward, genes.start, genes.end)
    columns = (genes.sequence, three, genes.strand, five)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {(row, end, strand): start for row, end, strand, start in rows}


if __name__ == "__main__":
    main()
