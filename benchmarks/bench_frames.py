"""Six-frame translation: `find_frames` beside Biopython's ``Seq.translate``, on one core.

Both read the same chunks, a partition's worth at a time, and keep the stop-free readings. The
first turn warms up and checks that both give the same peptides; then they take turns, and the
median of the turns counts. Rates are megabases of input a second. The last line is JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from Bio.Seq import Seq
from measured import medians, options_of, report, spent, take_turns

from virnuc_dask.lab.speed.metagenome import draw_coding, on_either_strand
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.sequences.frames import find_frames

CHUNK_LENGTH, PARTITION_CHUNKS, GENE_NT = 500, 1000, 900
Peptides = list[list[str]]


def main() -> None:
    parser = options_of(__doc__, repeats=5)
    parser.add_argument("--megabases", type=float, default=10.0, help="input to translate a turn")
    options = parser.parse_args()
    partitions = make_partitions(round(options.megabases * 1e6))
    megabases = sum(len(chunk) for chunks in partitions for chunk in chunks) / 1e6
    peptides = check_agreement(partitions)
    variants = {"virnuc_dask": ours, "biopython": biopython}
    works = {
        name: partial(spent, lambda way=way: [way(chunks) for chunks in partitions])
        for name, way in variants.items()
    }
    turns = take_turns(works, options.repeats)
    found = {name: medians(of, None)["wall_s"] for name, of in turns.items()}
    chunks = sum(map(len, partitions))
    result = {
        "benchmark": "frames",
        "unit": "Mbp of input a second, one core",
        "input": {"megabases": megabases, "chunks": chunks, "chunk_length": CHUNK_LENGTH},
        "frames": peptides,
        **{name: round(megabases / spent_s, 2) for name, spent_s in found.items()},
        "ratio": round(found["biopython"] / found["virnuc_dask"], 2),
    }
    report(result, options, "biopython")


def make_partitions(bases: int) -> list[list[str]]:
    """Chunks of a made-up genome: genes on either strand, open throughout, with stops between."""
    rng = np.random.default_rng(1)
    genes = (
        on_either_strand(draw_coding(rng, GENE_NT - 3) + "TAA", rng)
        for _ in range(bases // GENE_NT + 1)
    )
    genome = "".join(genes)[:bases]
    chunks = [genome[start:end] for start, end in chunk_spans(bases, CHUNK_LENGTH)]
    return [chunks[at : at + PARTITION_CHUNKS] for at in range(0, len(chunks), PARTITION_CHUNKS)]


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


if __name__ == "__main__":
    main()
