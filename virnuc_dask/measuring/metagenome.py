"""Metagenomes to measure with: drawn at random, or cut from genomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    chunks: int, chunk_length: int, seed: int = 1, coding: float = 0.5, repeated: float = 0.1
) -> Iterator[Record]:
    """Reads of one chunk each: a share codes for something, the rest is random DNA.

    As in a real sample (half of the chunks of bacteria and phages have an open frame), either
    strand codes, in any phase.

    Parameters
    ----------
    coding
        Share of the chunks with a stop-free reading by design.
    repeated
        Share of the chunks that repeat an earlier one, as sequencers do.
    """
    rng = np.random.default_rng(seed)
    seen: list[str] = []
    for index in range(chunks):
        if seen and rng.random() < repeated:
            dna = seen[int(rng.integers(len(seen)))]
        elif rng.random() < coding:
            phase = int(rng.integers(3))
            dna = draw_coding(rng, chunk_length + phase)[phase:]
            if rng.random() < 0.5:
                dna = reverse_complement(dna)
            seen.append(dna)
        else:
            dna = "".join(rng.choice(list(BASES), chunk_length).tolist())
            seen.append(dna)
        yield Record(index, f"read{index}", dna)


def cut_at_random(
    genomes: Sequence[Record], chunks: int, chunk_length: int, seed: int = 1, repeated: float = 0.1
) -> Iterator[Record]:
    """Reads of one chunk each from anywhere in ``genomes``, long ones more often; either strand.

    ``repeated`` is the share of reads that repeat an earlier one. Genomes shorter than a chunk
    give none.
    """
    rng = np.random.default_rng(seed)
    long_enough = [genome for genome in genomes if len(genome.dna) >= chunk_length]
    starts = np.array([len(genome.dna) - chunk_length + 1 for genome in long_enough])
    seen: list[str] = []
    for index in range(chunks):
        if seen and rng.random() < repeated:
            dna = seen[int(rng.integers(len(seen)))]
        else:
            genome = int(rng.choice(len(long_enough), p=starts / starts.sum()))
            start = int(rng.integers(starts[genome]))
            dna = long_enough[genome].dna[start : start + chunk_length].upper()
            if rng.random() < 0.5:
                dna = reverse_complement(dna)
            seen.append(dna)
        yield Record(index, f"read{index}", dna)


def as_fasta(records: Iterator[Record]) -> Iterator[str]:
    """The records as the lines of a FASTA file, two each."""
    for record in records:
        yield f">{record.id}\n{record.dna}\n"
