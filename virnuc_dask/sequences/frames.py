"""Chunk → frames: its six readings, of which the stop-free ones are kept.

Many chunks are translated together, laid end to end: the amino acids of the codons at *every*
position are sorted by position modulo three, so that each reading is one slice, and a cumulative
count of stops tells whether it is free of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.sequences.bases import codons_of, numbers_of, residues_of
from virnuc_dask.sequences.chunks import blocks_of

IntArray = NDArray[np.int64]

_STOP, _AMBIGUOUS = ord("*"), ord("X")

# DNA that is translated together: its arrays stay in the processor's cache.
_BLOCK_NT = 1 << 16

# Not ambiguous letters: the published tool leaves them as they are.
_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


@dataclass(frozen=True, slots=True)
class Frame:
    """One stop-free reading of a chunk, letters upper case."""

    strand: str  # "F" or "R"
    offset: int  # 0, 1 or 2, on its strand
    dna: str
    peptide: str

    @property
    def suffix(self) -> str:
        """What the published tool appends to the chunk's id: ``F1`` … ``R3``."""
        return f"{self.strand}{self.offset + 1}"


def find_frames(chunks: Sequence[str]) -> list[list[Frame]]:
    """The stop-free readings of each chunk, ASCII letters, in the order F1 F2 F3 R1 R2 R3.

    A codon with a letter other than A, C, G, T is skipped: the peptide is shorter, nothing marks
    the gap. A reading of ambiguous codons only, or of no codon, is no frame.
    """
    return [frames for block in blocks_of(chunks, _BLOCK_NT) for frames in _find_in_block(block)]


def _find_in_block(chunks: list[str]) -> list[list[Frame]]:
    forward = "".join(chunks).encode("ascii").upper()
    reverse = forward.translate(_COMPLEMENT)[::-1]
    edges = np.cumsum([0, *map(len, chunks)], dtype=np.int64)
    mirrored = len(reverse) - edges
    frames: list[list[Frame]] = [[] for _ in chunks]
    for chunk, frame in chain(
        _frames_of_strand("F", forward, edges[:-1], edges[1:]),
        _frames_of_strand("R", reverse, mirrored[1:], mirrored[:-1]),
    ):
        frames[chunk].append(frame)
    return frames


def _frames_of_strand(
    strand: str, dna: bytes, starts: IntArray, ends: IntArray
) -> Iterator[tuple[int, Frame]]:
    """Frames of chunks [start, end) of ``dna`` as (chunk number, frame), by chunk, by offset."""
    at_position = residues_of(codons_of(numbers_of(dna))[:-2])
    phases = [at_position[phase::3] for phase in range(3)]
    letters = np.concatenate(phases)
    phase_base = np.cumsum([0, *map(len, phases)], dtype=np.int64)
    # Of the three readings of each chunk: where they begin, there and in `letters`.
    begin = starts[:, None] + np.arange(3)
    codons = np.maximum(ends[:, None] - begin, 0) // 3
    start = np.where(codons, phase_base[begin % 3] + begin // 3, 0)
    stops, ambiguous = (
        _count_between(letters == letter, start, start + codons) for letter in (_STOP, _AMBIGUOUS)
    )
    text = letters.tobytes()
    for chunk, offset in np.argwhere((stops == 0) & (codons > ambiguous)).tolist():
        row = int(start[chunk, offset])
        peptide = text[row : row + int(codons[chunk, offset])]
        if ambiguous[chunk, offset]:
            peptide = peptide.replace(b"X", b"")
        first = int(begin[chunk, offset])
        # One base longer than the codons: the published tool slices it so, and its classifier
        # was trained on that. Held by tests/test_parity.py.
        last = min(first + 3 * len(peptide) + 1, int(ends[chunk]))
        yield chunk, Frame(strand, offset, dna[first:last].decode(), peptide.decode())


def _count_between(mask: NDArray[np.bool_], start: IntArray, end: IntArray) -> IntArray:
    """How many of ``mask[start:end]`` are true, for arrays of bounds."""
    total = np.zeros(len(mask) + 1, np.int64)
    np.cumsum(mask, out=total[1:])
    return total[end] - total[start]
