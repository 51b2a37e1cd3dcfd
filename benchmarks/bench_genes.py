"""Gene callers on one core: megabases by processor time, and how far they agree.

pyrodigal-gv with all of its models, with the 24 and the 16 that it chooses most often (and one for
each other genetic code), and our own fast caller take turns on the same contigs, in an order that
is reversed each time; the medians of the turns count. Agreement is with pyrodigal-gv and all
models: of 3' ends (precision, recall), and of starts where 3' ends agree. The last line is JSON.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from measured import DEMO, Figures, medians, on_one_core, options_of, report, spent, take_turns

from virnuc_dask.sequences.genes import FAST, PYRODIGAL, Genes, gene_caller
from virnuc_dask.sequences.records import read_records

CHOSEN_16 = (0, 5, 6, 11, 13, 19, 20, 25, 36, 39, 40, 47, 49, 55, 57, 59)
CHOSEN_24 = tuple(sorted((*CHOSEN_16, 9, 16, 17, 44, 48, 52, 58, 60)))
CALLERS = {
    "pyrodigal-gv, 62 models": (PYRODIGAL, None),
    "pyrodigal-gv, 24 models": (PYRODIGAL, CHOSEN_24),
    "pyrodigal-gv, 16 models": (PYRODIGAL, CHOSEN_16),
    "fast": (FAST, None),
}


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("inputs", nargs="*", type=Path, default=[DEMO])
    parser.add_argument("--length", type=int, help="cut contigs into so many nt")
    options = parser.parse_args()
    dna = [record.dna for record in read_records(list(map(str, options.inputs)))]
    dna = [piece for whole in dna for piece in cut(whole, options.length)]
    callers = {name: gene_caller(*how) for name, how in CALLERS.items()}
    found: dict[str, Genes] = {}

    def find(name: str) -> None:
        found[name] = callers[name].find(dna)

    with on_one_core():
        works = {name: partial(spent, partial(find, name)) for name in callers}
        turns = take_turns(works, options.repeats)
    megabases = sum(map(len, dna)) / 1e6
    result = {
        "benchmark": "genes",
        "contigs": len(dna),
        "megabases": round(megabases, 3),
        "callers": {
            name: {
                "mbp_per_cpu_s": round(megabases / medians(turns[name], None)["cpu_s"], 2),
                **agreement(found[name], found[next(iter(CALLERS))]),
            }
            for name in CALLERS
        },
    }
    report(result, options, "pyrodigal", "pyrodigal-gv")


def cut(dna: str, length_nt: int | None) -> list[str]:
    if length_nt is None:
        return [dna]
    ends = range(length_nt, len(dna) + 1, length_nt)
    return [dna[end - length_nt : end] for end in ends]


def agreement(found: Genes, reference: Genes) -> Figures:
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
