"""FASTQ and FASTA → records, and → partition files, on one core, in MB/s, beside dnaio.

Ours delivers what a plan is made of: names and DNA that were checked letter by letter, and the
digest of the file's bytes. dnaio delivers records, of FASTQ with qualities, and checks no letter.
They take turns on the same file, in an order that is reversed each time; the medians of the turns
count. Planning, with its peak of memory, is measured in a process of its own. On a machine that is
shared, trust the rates by processor time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dnaio
import numpy as np
import xxhash
from measured import (
    Figures,
    medians,
    on_one_core,
    options_of,
    peak_bytes,
    report,
    spent,
    take_turns,
)

from virnuc_dask.lab.speed.process import in_own_process
from virnuc_dask.sequences.chunks import Chunks
from virnuc_dask.sequences.partitions import write_partitions
from virnuc_dask.sequences.records import Record, read_records
from virnuc_dask.tables.folder import RunFolder

CHUNK_LENGTH, PARTITION_CHUNKS = 500, 1000
READ_NT, LINE = 150, 80


def main() -> None:
    parser = options_of(__doc__, repeats=5)
    parser.add_argument("--megabytes", type=float, default=200, help="of each input")
    parser.add_argument("--work", type=Path, help="where inputs are put for the time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work, on_one_core():
        found = {path.name: compare(path, options) for path in draw_inputs(Path(work), options)}
    report({"benchmark": "reading", "reading": found}, options, "dnaio", "xopen", "xxhash")


def draw_inputs(folder: Path, options: argparse.Namespace) -> Iterator[Path]:
    """Short and long reads; short reads, contigs and one long record as FASTA; so large each."""
    rng, most = np.random.default_rng(1), options.megabytes * 1e6
    for name, entry, length_nt, spread in (
        ("short_reads.fastq", as_read, READ_NT, 0.0),
        ("long_reads.fastq", as_read, 10_000, 0.6),
        ("short_reads.fasta", as_fasta, READ_NT, 0.0),
        ("contigs.fasta", as_fasta, 5_000, 0.8),
        ("long_record.fasta", as_fasta, most, 0.0),
    ):
        with (folder / name).open("wb") as stream:
            number = 0
            while stream.tell() < most:
                length = max(1, round(rng.lognormal(np.log(length_nt), spread)))
                stream.write(entry(header(number), draw_letters(rng, b"ACGT", length), rng))
                number += 1
        yield folder / name


def draw_letters(rng: np.random.Generator, letters: bytes, count: int) -> bytes:
    drawn = np.frombuffer(rng.bytes(count), np.uint8) % len(letters)
    return np.frombuffer(letters, np.uint8)[drawn].tobytes()


def header(number: int) -> bytes:
    """As Illumina's machines write it."""
    place = (1 + number % 4, 1101 + number % 500, 1000 + number * 7 % 30_000, number * 13 % 30_000)
    return b"A00123:456:HXXXXDSXX:%d:%d:%d:%d 1:N:0:ACGTACGT+TGCATGCA" % place


def as_read(name: bytes, dna: bytes, rng: np.random.Generator) -> bytes:
    return b"@%s\n%s\n+\n%s\n" % (name, dna, draw_letters(rng, b"FFFFFF:,#", len(dna)))


def as_fasta(name: bytes, dna: bytes, _: np.random.Generator) -> bytes:
    width = max(LINE, READ_NT) if len(dna) <= READ_NT else LINE
    lines = (dna[at : at + width] + b"\n" for at in range(0, len(dna), width))
    return b">%s\n%s" % (name, b"".join(lines))


def compare(path: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """Each reader's rates, and those of planning."""
    counts: dict[str, int] = {}

    def count(name: str, read: Callable[[Path], Iterator[object]]) -> None:
        counts[name] = sum(1 for _ in read(path))

    readers = {"ours": ours, "dnaio": by_dnaio}
    works = {name: partial(spent, partial(count, name, read)) for name, read in readers.items()}
    found = take_turns(works, options.repeats)
    plans = [in_own_process(plan, path) for _ in range(options.repeats)]
    peak = {"peak_mb": round(medians(plans)["peak_mb"], 1)}
    counts["plan"] = counts["ours"]
    return {
        name: rates(medians(turns, None), path.stat().st_size, counts[name])
        | (peak if turns is plans else {})
        for name, turns in (found | {"plan": plans}).items()
    }


def rates(took: Figures, size: int, records: int) -> Figures:
    return {
        "records": records,
        "mb_per_s": round(size / 1e6 / took["wall_s"], 1),
        "mb_per_cpu_s": round(size / 1e6 / took["cpu_s"], 1),
        "records_per_cpu_s": round(records / took["cpu_s"]),
    }


def ours(path: Path) -> Iterator[Record]:
    return read_records([str(path)], xxhash.xxh3_128())


def by_dnaio(path: Path) -> Iterator[object]:
    with dnaio.open(path, open_threads=0) as reader:
        yield from reader


def plan(path: Path) -> Figures:
    """Seconds from a file to its partitions on one core, and the most memory of the process."""
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        folder = RunFolder(Path(work))
        folder.prepare(resume=False, force=False)
        sizes = (Chunks(CHUNK_LENGTH), PARTITION_CHUNKS)
        write = partial(write_partitions, ours(path), folder, *sizes, lambda: "x")
        took = spent(write)
    return took | {"peak_mb": peak_bytes() / 1e6}


if __name__ == "__main__":
    main()
