"""Whole runs of contigs that a model set was not trained on: what each gene caller costs and finds.

``WORK`` is a training's work folder, ``MODEL`` the set in it that was trained without its tests
(``words-*/measured-*``), or one that reads frames. Contigs are the training's fragments of about a
length. Each run is a process on one thread without Dask. The last line is JSON.
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
import pyarrow as pa
import pyarrow.parquet as pq
from measured import options_of, report, tell, write_fasta
from numpy.typing import NDArray

from virnuc_dask.lab.contig_figures import NEAR, separation
from virnuc_dask.lab.recipe import PROPHAGE
from virnuc_dask.lab.taught import TEST, Fragments
from virnuc_dask.sequences.genes import FAST, PYRODIGAL
from virnuc_dask.sequences.records import Record

COMPARISONS = ("new groups", "prophages")
READ_NT = 300  # the beginnings of fragments
MOST = 3_000  # of a side


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("model")
    parser.add_argument("work", type=Path)
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
                if len((chosen := contigs(options.work, name, length))[0]):
                    found[f"{name}, {length} nt"] = compare(options, caller, chosen, length, work)
                    tell(f"{caller}: {name}, {length} nt: {found[f'{name}, {length} nt']}")
        if options.whole_mbp:
            found["whole run"] = whole(options, caller, work)
    return found


def contigs(
    work: Path, comparison: str, length: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Fragments to compare, of about a length, and whether each is viral."""
    fragments = Fragments.read(work / "fragments.parquet")
    kind, nt = fragments.judged_kind, fragments.length_nt
    chosen = (np.abs(np.log(nt / length)) < np.log(NEAR)) | (length == READ_NT)
    if comparison == "prophages":
        is_virus = kind == PROPHAGE
        is_other = (kind == "prokaryote") & np.isin(fragments.group, fragments.group[is_virus])
    else:
        chosen &= fragments.fold == TEST
        is_virus, is_other = kind == "phage", kind == "prokaryote"
    rng = np.random.default_rng(1)
    sides = [rng.permutation(np.flatnonzero(chosen & of))[:MOST] for of in (is_virus, is_other)]
    if not min(map(len, sides)):
        return np.empty(0, np.int64), np.empty(0, np.bool_)
    return np.concatenate(sides), np.arange(sum(map(len, sides))) < len(sides[0])


def compare(
    options: argparse.Namespace,
    caller: str,
    chosen: tuple[NDArray[np.int64], NDArray[np.bool_]],
    length: int,
    work: Path,
) -> dict[str, object]:
    rows, is_virus = chosen
    most_nt = READ_NT if length == READ_NT else None
    of_test = records_of(options.work, rows, most_nt)
    run(options.model, caller, write_fasta(work / "contigs.fasta", of_test), work / "out")
    with (work / "out" / "contigs.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
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
    fragments = Fragments.read(options.work / "fragments.parquet")
    rows = np.random.default_rng(1).permutation(np.flatnonzero(fragments.fold == TEST))
    rows = rows[np.cumsum(fragments.length_nt[rows]) <= options.whole_mbp * 1e6]
    path = write_fasta(work / "whole.fasta", records_of(options.work, rows))
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


def records_of(work: Path, rows: NDArray[np.int64], most_nt: int | None = None) -> Iterator[Record]:
    dna = pq.read_table(work / "sequences.parquet", columns=["dna"])["dna"].take(pa.array(rows))
    for index, (row, text) in enumerate(zip(rows.tolist(), dna, strict=True)):
        yield Record(index, f"fragment{row}", text.as_py()[:most_nt])


def run(model: str, caller: str, contigs: Path, out: Path) -> None:
    command = [sys.executable, "-m", "virnuc_dask", "run", str(contigs), "-o", str(out), "--force"]
    command += ["--model", model, "--no-features", "--quiet", "--cluster", "none", "--threads", "1"]
    command += ["--gene-caller", caller] if caller else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
