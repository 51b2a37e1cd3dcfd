"""Whole runs of contigs that a model set was not trained on: what each gene caller costs and finds.

``TESTS`` is the folder ``tests`` of a training's work folder, ``MODEL`` the set in it that was
trained without them (``words-*/measured-*``), or one that reads frames. Each run is a process on
one thread without Dask. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measured import options_of, report, tell, write_fasta

from virnuc_dask.lab.contig_figures import separation
from virnuc_dask.sequences.genes import FAST, PYRODIGAL
from virnuc_dask.sequences.records import Record, read_records

# The tests that make one comparison, and the classes of its contigs.
COMPARISONS = {
    "new_group": (("new_group",), ("phage", "prokaryote")),
    "prophage": (("prophage", "host"), ("prokaryote",)),
    "read": (("read",), ("phage", "prokaryote")),
}


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("model")
    parser.add_argument("tests", type=Path)
    parser.add_argument("--callers", nargs="+", default=[PYRODIGAL, FAST])
    parser.add_argument("--lengths", nargs="+", type=int, default=[300, 1_000, 3_000, 10_000])
    parser.add_argument("--whole-mbp", type=float, default=0, help="time a run of so much, too")
    options = parser.parse_args()
    found = {caller or "of the set": figures(options, caller) for caller in options.callers}
    report({"benchmark": "contigs", "model": Path(options.model).name, "callers": found}, options)


def figures(options: argparse.Namespace, caller: str) -> dict[str, object]:
    found: dict[str, object] = {}
    with TemporaryDirectory() as folder:
        work = Path(folder)
        for name in COMPARISONS:
            for length in options.lengths:
                if chosen := contigs(options.tests, name, length):
                    found[f"{name}, {length} nt"] = compare(options, caller, chosen, work)
                    tell(f"{caller}: {name}, {length} nt: {found[f'{name}, {length} nt']}")
        if options.whole_mbp:
            found["whole run"] = whole(options, caller, work)
    return found


def contigs(tests: Path, comparison: str, length: int) -> dict[str, bool]:
    """Names of a comparison's contigs, and whether each is viral."""
    kinds, classes = COMPARISONS[comparison]
    with (tests / "contigs.tsv").open(encoding="utf-8") as stream:
        return {
            row["contig"]: row["label"] == "virus"
            for row in csv.DictReader(stream, delimiter="\t")
            if row["test"] in kinds and row["class"] in classes and row["length_nt"] == str(length)
        }


def compare(
    options: argparse.Namespace, caller: str, chosen: dict[str, bool], work: Path
) -> dict[str, object]:
    of_test = (record for record in all_records(options.tests) if record.id in chosen)
    run(options.model, caller, write_fasta(work / "contigs.fasta", of_test), work / "out")
    with (work / "out" / "contigs.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    is_virus = np.array([chosen[row["record_id"]] for row in rows])
    chance = np.array([float(row["probability"] or 0) for row in rows])
    called = np.array([row["call"] == "virus" for row in rows])
    return {
        **separation(chance, is_virus),
        "viruses": int(is_virus.sum()),
        "others": int((~is_virus).sum()),
        "viruses_called": round(float(called[is_virus].mean()), 4),
        "others_called": round(float(called[~is_virus].mean()), 4),
    }


def whole(options: argparse.Namespace, caller: str, work: Path) -> dict[str, float]:
    """Seconds, start-up included, and the memory of one run of many contigs of all kinds."""
    left_nt = options.whole_mbp * 1e6

    def some() -> Iterator[Record]:
        nonlocal left_nt
        for record in all_records(options.tests):
            if not record.id.startswith("read_") and left_nt > 0:
                left_nt -= len(record.dna)
                yield record

    path = write_fasta(work / "whole.fasta", some())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(options.model, caller, path, work / "out")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = json.loads((work / "out" / "run.json").read_text(encoding="utf-8"))["summary"]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "mbp": options.whole_mbp,
        "cpu_s": round(cpu_s, 1),
        "elapsed_s": summary["elapsed_s"],
        "peak_mb": round(after.ru_maxrss / 1024),
        **{f"{stage}_s": seconds for stage, seconds in summary["stage_s"].items()},
    }


def all_records(tests: Path) -> Iterator[Record]:
    return read_records([str(tests / f"{label}.fasta") for label in ("virus", "other")])


def run(model: str, caller: str, contigs: Path, out: Path) -> None:
    command = [sys.executable, "-m", "virnuc_dask", "run", str(contigs), "-o", str(out), "--force"]
    command += ["--model", model, "--no-features", "--quiet", "--cluster", "none", "--threads", "1"]
    command += ["--gene-caller", caller] if caller else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
