"""Metagenomes to measure with, drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from virnuc_dask.sequences.bases import BASES, CODONS, STOPS, reverse_complement
from virnuc_dask.sequences.frames import Frame, find_frames
from virnuc_dask.sequences.records import Record

_OPEN_CODONS = np.array([codon for codon in CODONS if codon not in STOPS])


def draw_coding(rng: np.random.Generator, length_nt: int) -> str:
    """DNA whose first reading is free of stops, every other codon as likely as any."""
    codons = rng.choice(_OPEN_CODONS, -(-length_nt // 3))
    return "".join(codons.tolist())[:length_nt]


def draw_frames(count: int, chunk_length: int, seed: int = 1) -> list[Frame]:
    """Frames of ``count`` coding chunks, all different: what the encoders see of a metagenome."""
    rng = np.random.default_rng(seed)
    frames: list[Frame] = []
    while len(frames) < count:
        chunks = [draw_coding(rng, chunk_length) for _ in range(count)]
        frames += [frame for found in find_frames(chunks) for frame in found]
    return frames[:count]


def draw_metagenome(
    chunks: int, chunk_length: int, seed: int = 1, repeated: float = 0.1
) -> Iterator[Record]:
    """Reads of one chunk each: half of them code for something, the rest is random DNA.

    As in a real sample (half of the chunks of bacteria and phages have an open frame), either
    strand codes, in any phase. ``repeated`` is as in `reads`.
    """

    def draw(rng: np.random.Generator) -> str:
        if rng.random() < 0.5:
            return "".join(rng.choice(list(BASES), chunk_length).tolist())
        phase = int(rng.integers(3))
        return on_either_strand(draw_coding(rng, chunk_length + phase)[phase:], rng)

    return reads(draw, chunks, seed, repeated)


def reads(
    draw: Callable[[np.random.Generator], str], count: int, seed: int, repeated: float
) -> Iterator[Record]:
    """So many drawn reads; a share of them repeats an earlier one, as sequencers do."""
    rng = np.random.default_rng(seed)
    seen: list[str] = []
    for index in range(count):
        if seen and rng.random() < repeated:
            dna = seen[int(rng.integers(len(seen)))]
        else:
            dna = draw(rng)
            seen.append(dna)
        yield Record(index, f"read{index}", dna)


def on_either_strand(dna: str, rng: np.random.Generator) -> str:
    """Upper-case DNA or its reverse complement, each as likely."""
    return dna if rng.random() < 0.5 else reverse_complement(dna)


def as_fasta(records: Iterator[Record]) -> Iterator[str]:
    """The records as the lines of a FASTA file, two each."""
    for record in records:
        yield f">{record.id}\n{record.dna}\n"
