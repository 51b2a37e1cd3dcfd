"""Metagenomes to measure with, drawn at random."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from virnuc_dask.sequences.bases import BASES, CODONS, STOPS, reverse_complement
from virnuc_dask.sequences.frames import Frame, find_frames
from virnuc_dask.sequences.records import Record

_REPEATED = 0.1  # of the reads
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


def draw_metagenome(chunks: int, chunk_length: int, seed: int = 1) -> Iterator[Record]:
    """Reads of one chunk each: half of them code for something, the rest is random DNA.

    As in a real sample (half of the chunks of bacteria and phages have an open frame), either
    strand codes, in any phase; a tenth of the reads repeats an earlier one, as sequencers do.
    """
    rng = np.random.default_rng(seed)
    seen: list[str] = []
    for index in range(chunks):
        if seen and rng.random() < _REPEATED:
            dna = seen[int(rng.integers(len(seen)))]
        else:
            seen.append(dna := _draw_chunk(rng, chunk_length))
        yield Record(index, f"read{index}", dna)


def _draw_chunk(rng: np.random.Generator, length_nt: int) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choice(list(BASES), length_nt).tolist())
    phase = int(rng.integers(3))
    return on_either_strand(draw_coding(rng, length_nt + phase)[phase:], rng)


def on_either_strand(dna: str, rng: np.random.Generator) -> str:
    """Upper-case DNA or its reverse complement, each as likely."""
    return dna if rng.random() < 0.5 else reverse_complement(dna)


def as_fasta(records: Iterable[Record]) -> Iterator[str]:
    """The records as the lines of a FASTA file, two each."""
    for record in records:
        yield f">{record.id}\n{record.dna}\n"
