"""Plain FASTQ and FASTA → records on one core, in MB/s, beside dnaio.

Ours delivers what a plan is made of: names and DNA that were checked letter by letter, and the
digest of the file's bytes. dnaio delivers records, of FASTQ with qualities, and checks no letter.
They take turns on the same file, in an order that is reversed each time; the medians of the turns
count. On a machine that is shared, trust the rates by processor time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dnaio
import numpy as np
import xxhash

from virnuc_dask.lab.speed.machine import describe, versions
from virnuc_dask.sequences.records import read_records

READ_NT, LONG_NT, CONTIG_NT, LINE = 150, 10_000, 5_000, 80
Figures = dict[str, float]


class Turn(NamedTuple):
    """What reading a file once took."""

    records: int
    wall_s: float
    cpu_s: float


def main() -> None:
    options = parse_options()
    machine = describe()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        inputs = draw_inputs(Path(work), options.megabytes)
        result = {
            "benchmark": "reading",
            "repeats": options.repeats,
            "reading": {name: compare(path, options.repeats) for name, path in inputs.items()},
            "machine": machine,
            "versions": versions("dnaio", "xopen", "xxhash"),
        }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200, help="of each input")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each reader")
    parser.add_argument("--work", type=Path, help="where inputs are put for the time")
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
    return parser.parse_args()


def draw_inputs(folder: Path, megabytes: float) -> dict[str, Path]:
    """Short and long reads, and short reads and contigs as FASTA, about so large each."""
    rng = np.random.default_rng(1)
    drawn = {
        "short_reads.fastq": (as_read, READ_NT, 0.0),
        "long_reads.fastq": (as_read, LONG_NT, 0.6),
        "short_reads.fasta": (as_fasta, READ_NT, 0.0),
        "contigs.fasta": (as_fasta, CONTIG_NT, 0.8),
    }
    for name, (entry, length_nt, spread) in drawn.items():
        with (folder / name).open("wb") as stream:
            number = 0
            while stream.tell() < megabytes * 1e6:
                length = max(1, round(rng.lognormal(np.log(length_nt), spread)))
                stream.write(entry(number, draw(rng, b"ACGT", length), rng))
                number += 1
    return {name: folder / name for name in drawn}


def draw(rng: np.random.Generator, letters: bytes, count: int) -> bytes:
    return rng.choice(np.frombuffer(letters, np.uint8), count).tobytes()


def header(number: int) -> bytes:
    """As Illumina's machines write it."""
    place = (1 + number % 4, 1101 + number % 500, 1000 + number * 7 % 30_000, number * 13 % 30_000)
    return b"A00123:456:HXXXXDSXX:%d:%d:%d:%d 1:N:0:ACGTACGT+TGCATGCA" % place


def as_read(number: int, dna: bytes, rng: np.random.Generator) -> bytes:
    return b"@%s\n%s\n+\n%s\n" % (header(number), dna, draw(rng, b"FFFFFF:,#", len(dna)))


def as_fasta(number: int, dna: bytes, _: np.random.Generator) -> bytes:
    width = LINE if len(dna) > READ_NT else READ_NT
    lines = b"\n".join(dna[at : at + width] for at in range(0, len(dna), width))
    return b">%s\n%s\n" % (header(number), lines)


def compare(path: Path, repeats: int) -> dict[str, Figures]:
    """Each reader's rates."""
    readers = {"ours": ours, "dnaio": another}
    turns: dict[str, list[Turn]] = {name: [] for name in readers}
    for number in range(repeats + 1):
        for name in list(readers)[:: 1 if number % 2 else -1]:
            turn = timed(readers[name](path))
            if number:  # the first one warms up
                turns[name].append(turn)
    return {name: rates(of_reader, path) for name, of_reader in turns.items()}


def ours(path: Path) -> Iterator[object]:
    return read_records([str(path)], xxhash.xxh3_128())


def another(path: Path) -> Iterator[object]:
    with dnaio.open(path, open_threads=0) as reader:
        yield from reader


def timed(records: Iterator[object]) -> Turn:
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in records)
    return Turn(count, time.perf_counter() - wall, time.process_time() - cpu)


def rates(turns: list[Turn], path: Path) -> Figures:
    megabytes = path.stat().st_size / 1e6
    wall_s = statistics.median(turn.wall_s for turn in turns)
    cpu_s = statistics.median(turn.cpu_s for turn in turns)
    return {
        "records": turns[0].records,
        "mb_per_s": round(megabytes / wall_s, 1),
        "mb_per_cpu_s": round(megabytes / cpu_s, 1),
        "records_per_cpu_s": round(turns[0].records / cpu_s),
    }


if __name__ == "__main__":
    main()
