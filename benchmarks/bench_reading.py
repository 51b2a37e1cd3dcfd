"""Plain FASTQ and FASTA → records on one core, in MB/s, beside dnaio.

Ours delivers what a plan is made of: names and DNA that were checked letter by letter, and the
digest of the file's bytes. dnaio delivers records, of FASTQ with qualities, and checks no letter.
They take turns on the same file, in an order that is reversed each time; the medians of the turns
count. On a machine that is shared, trust the rates by processor time. The last line is JSON.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dnaio
import numpy as np
import xxhash
from measured import (
    LINE,
    Figures,
    draw_letters,
    in_lines,
    medians,
    on_one_core,
    options_of,
    report,
    spent,
    take_turns,
)

from virnuc_dask.sequences.records import read_records

READ_NT, LONG_NT, CONTIG_NT = 150, 10_000, 5_000


def main() -> None:
    parser = options_of(__doc__, repeats=5)
    parser.add_argument("--megabytes", type=float, default=200, help="of each input")
    parser.add_argument("--work", type=Path, help="where inputs are put for the time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work, on_one_core():
        inputs = draw_inputs(Path(work), options.megabytes)
        read = {name: compare(path, options.repeats) for name, path in inputs.items()}
    report({"benchmark": "reading", "reading": read}, options, "dnaio", "xopen", "xxhash")


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
                stream.write(entry(number, draw_letters(rng, b"ACGT", length), rng))
                number += 1
    return {name: folder / name for name in drawn}


def header(number: int) -> bytes:
    """As Illumina's machines write it."""
    place = (1 + number % 4, 1101 + number % 500, 1000 + number * 7 % 30_000, number * 13 % 30_000)
    return b"A00123:456:HXXXXDSXX:%d:%d:%d:%d 1:N:0:ACGTACGT+TGCATGCA" % place


def as_read(number: int, dna: bytes, rng: np.random.Generator) -> bytes:
    qualities = draw_letters(rng, b"FFFFFF:,#", len(dna))
    return b"@%s\n%s\n+\n%s\n" % (header(number), dna, qualities)


def as_fasta(number: int, dna: bytes, _: np.random.Generator) -> bytes:
    width = LINE if len(dna) > READ_NT else READ_NT
    return b">%s\n%s" % (header(number), b"".join(in_lines(dna, width)))


def compare(path: Path, repeats: int) -> dict[str, Figures]:
    """Each reader's rates."""
    counts: dict[str, int] = {}

    def count(name: str, records: Iterator[object]) -> None:
        counts[name] = sum(1 for _ in records)

    readers = {"ours": ours, "dnaio": another}
    turns = take_turns(
        {n: partial(spent, lambda n=n, r=read: count(n, r(path))) for n, read in readers.items()},
        repeats,
    )
    megabytes = path.stat().st_size / 1e6
    return {
        name: {
            "records": counts[name],
            "mb_per_s": round(megabytes / took["wall_s"], 1),
            "mb_per_cpu_s": round(megabytes / took["cpu_s"], 1),
            "records_per_cpu_s": round(counts[name] / took["cpu_s"]),
        }
        for name, took in ((name, medians(of, None)) for name, of in turns.items())
    }


def ours(path: Path) -> Iterator[object]:
    return read_records([str(path)], xxhash.xxh3_128())


def another(path: Path) -> Iterator[object]:
    with dnaio.open(path, open_threads=0) as reader:
        yield from reader


if __name__ == "__main__":
    main()
