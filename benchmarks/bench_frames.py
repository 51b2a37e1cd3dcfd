"""Six-frame translation: `find_frames` beside Biopython's ``Seq.translate``, on one core.

Both read the same chunks, a partition's worth at a time, and keep the stop-free readings. The
first turn warms up and checks that both give the same peptides; then they take turns, and the
median of the turns counts. Rates are megabases of input a second. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from Bio.Seq import Seq

from virnuc_dask.lab.speed.machine import describe, versions
from virnuc_dask.sequences.chunks import cut
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.sequences.records import Record

CHUNK_LENGTH = 500
PARTITION_CHUNKS = 1000
GENE_CODONS = 300
STOPS = ("TAA", "TAG", "TGA")
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in STOPS]

Peptides = list[list[str]]
Translate = Callable[[list[str]], Peptides]


def main() -> None:
    options = parse_options()
    partitions = make_partitions(round(options.megabases * 1e6))
    chunks = [chunk for partition in partitions for chunk in partition]
    megabases = sum(map(len, chunks)) / 1e6
    peptides = check_agreement(partitions)
    rates = take_turns({"virnuc_dask": ours, "biopython": biopython}, partitions, options.repeats)
    result = {
        "benchmark": "frames",
        "unit": "Mbp of input a second, one core",
        "input": {"megabases": megabases, "chunks": len(chunks), "chunk_length": CHUNK_LENGTH},
        "frames": peptides,
        "repeats": options.repeats,
        **{name: round(megabases / statistics.median(times), 2) for name, times in rates.items()},
        "ratio": round(
            statistics.median(rates["biopython"]) / statistics.median(rates["virnuc_dask"]), 2
        ),
        "machine": describe(),
        "versions": versions("biopython"),
    }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabases", type=float, default=10.0, help="input to translate a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
    return parser.parse_args()


def make_partitions(bases: int) -> list[list[str]]:
    """Chunks of a made-up genome: genes on either strand, open throughout, with stops between."""
    rng = random.Random(1)
    genes = (gene(rng) for _ in range(bases // (3 * GENE_CODONS) + 1))
    record = Record(0, "genome", "".join(genes)[:bases])
    chunks = [chunk.sequence for chunk in cut(record, CHUNK_LENGTH)]
    return [chunks[at : at + PARTITION_CHUNKS] for at in range(0, len(chunks), PARTITION_CHUNKS)]


def gene(rng: random.Random) -> str:
    coding = "".join(rng.choices(CODONS, k=GENE_CODONS - 1)) + rng.choice(STOPS)
    return coding if rng.random() < 0.5 else str(Seq(coding).reverse_complement())


def ours(chunks: list[str]) -> Peptides:
    return [[frame.peptide for frame in frames] for frames in find_frames(chunks)]


def biopython(chunks: list[str]) -> Peptides:
    return [[p for p in six_readings(chunk) if p and "*" not in p] for chunk in chunks]


def six_readings(chunk: str) -> Iterator[str]:
    forward = Seq(chunk)
    for strand in (forward, forward.reverse_complement()):
        for offset in range(3):
            codons = (len(strand) - offset) // 3
            yield str(strand[offset : offset + 3 * codons].translate())


def check_agreement(partitions: list[list[str]]) -> int:
    """The number of peptides, once it is sure that both give the same."""
    count = 0
    for chunks in partitions:
        found = ours(chunks)
        if found != biopython(chunks):
            raise SystemExit("the two translations differ: there is nothing to compare.")
        count += sum(map(len, found))
    return count


def take_turns(
    variants: dict[str, Translate], partitions: list[list[str]], repeats: int
) -> dict[str, list[float]]:
    """Seconds of each variant's turns over all partitions."""
    elapsed_s: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, translate in variants.items():
            start = time.perf_counter()
            for chunks in partitions:
                translate(chunks)
            elapsed_s[name].append(time.perf_counter() - start)
    return elapsed_s


if __name__ == "__main__":
    main()
