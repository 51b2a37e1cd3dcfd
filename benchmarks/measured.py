"""What the programs share: their options, turns, drawn inputs, and the line of JSON they end in."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from virnuc_dask.cluster.machine import versions
from virnuc_dask.lab.speed.machine import describe
from virnuc_dask.lab.speed.metagenome import as_fasta, draw_metagenome, on_either_strand, reads
from virnuc_dask.sequences.records import Record, read_records

DEMO = Path(__file__).parents[1] / "tests" / "data" / "demo.fasta.gz"
LINE = 80
Figures = dict[str, float]
Result = TypeVar("Result")


def options_of(program: str | None, repeats: int | None = 3) -> argparse.ArgumentParser:
    """A parser with the options that every program has; ``program`` is its docstring."""
    parser = argparse.ArgumentParser(description=(program or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help="turns of each")
    return parser


def report(result: Mapping[str, object], options: argparse.Namespace, *packages: str) -> None:
    """Print figures as a line of JSON, with the machine and the versions; write it, if asked to."""
    repeats = {"repeats": options.repeats} if "repeats" in options else {}
    about = repeats | {"machine": describe(), "versions": versions(*packages)}
    line = json.dumps({**result, **about})
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def peak_bytes(*, anew: bool = False) -> int:
    """The most memory this process has held; ``anew``: counted from now on, for the next time.

    Not by getrusage, which begins at the parent's.
    """
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii").split()
    return 1024 * int(status[status.index("VmHWM:") + 1])


def take_turns(
    variants: Mapping[str, Callable[[], Result]], repeats: int
) -> dict[str, list[Result]]:
    """What each variant gave, turn by turn; a first turn of each warms up and is not counted.

    The order is reversed from one turn to the next, so that a machine that slows down or is shared
    treats all alike.
    """
    found: dict[str, list[Result]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name in list(variants)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            given = variants[name]()
            if turn:
                found[name].append(given)
            spent_s = time.perf_counter() - start
            tell(f"{name}: {spent_s:.2f} s ({f'turn {turn}' if turn else 'warming up'})")
    return found


def spent(work: Callable[[], object]) -> Figures:
    """Seconds by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


@contextmanager
def on_one_core() -> Iterator[None]:
    """Compute on one core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def medians(turns: Sequence[Figures], decimals: int | None = 3) -> Figures:
    """Of each figure, over the turns."""
    found = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return found if decimals is None else {n: round(value, decimals) for n, value in found.items()}


def ratio(turns: Sequence[Figures], others: Sequence[Figures], name: str) -> float:
    """The median of the ratios turn by turn, so that a noisy minute hits both."""
    pairs = zip(turns, others, strict=True)
    return round(statistics.median(ours[name] / theirs[name] for ours, theirs in pairs), 3)


def write_metagenome(path: Path, chunks: int, length_nt: int, repeated: float = 0.1) -> Path:
    """Random reads of one chunk each, as FASTA."""
    with path.open("w") as stream:
        stream.writelines(as_fasta(draw_metagenome(chunks, length_nt, repeated=repeated)))
    return path


def cut_at_random(
    genomes: Sequence[Record], count: int, length_nt: int, seed: int = 1, repeated: float = 0.1
) -> Iterator[Record]:
    """Reads from anywhere in ``genomes``, long ones more often; either strand; none of short ones.

    ``repeated`` is the share of reads that repeat an earlier one.
    """
    long_enough = [genome.dna.upper() for genome in genomes if len(genome.dna) >= length_nt]
    starts = np.array([len(dna) - length_nt + 1 for dna in long_enough])

    def draw(rng: np.random.Generator) -> str:
        genome = int(rng.choice(len(long_enough), p=starts / starts.sum()))
        start = int(rng.integers(starts[genome]))
        return on_either_strand(long_enough[genome][start : start + length_nt], rng)

    return reads(draw, count, seed, repeated)


def write_reads_of_the_demo(path: Path, count: int, length_nt: int) -> Path:
    """Reads cut from the genomes of the demo, a tenth of them repeated, as FASTA."""
    genomes = list(read_records([str(DEMO)]))
    with path.open("w") as stream:
        stream.writelines(as_fasta(cut_at_random(genomes, count, length_nt)))
    return path


def draw_letters(rng: np.random.Generator, letters: bytes, count: int) -> bytes:
    return rng.choice(np.frombuffer(letters, np.uint8), count).tobytes()


def in_lines(dna: bytes, width: int = LINE) -> Iterator[bytes]:
    """The lines of a record's DNA."""
    return (dna[at : at + width] + b"\n" for at in range(0, len(dna), width))
