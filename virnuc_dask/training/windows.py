"""Genes → random windows, their frames and the frames' n-grams, packed for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from virnuc_dask.encoders.ngrams import Bags, dna_bags, peptide_bags
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.training.genes import OTHER, TRANSCRIPT, VIRUS, Gene

SHORTEST_NT, LONGEST_NT = 200, 600

# Shares of what is drawn. Transcripts are 2 % of the genes but all of the eukaryotes, so they are
# drawn more often; a few windows are shuffled DNA, which must not look viral.
_SHARES = {VIRUS: 0.50, OTHER: 0.38, TRANSCRIPT: 0.09}
_NOISE_SHARE = 0.03

# A gene is drawn in proportion to its length, up to so many windows' worth.
_MOST_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Samples:
    """Chunks with at least one frame: their frames' n-grams, in order, and the chunks' labels.

    ``frame_ends`` (int64) starts with 0: chunk i has frames ``frame_ends[i]:frame_ends[i + 1]``.
    ``labels`` are 0 (others) and 1 (virus), int64.
    """

    bags: dict[str, Bags]
    frame_ends: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def chunk_of_frame(self) -> Tensor:
        """For each frame the index of its chunk, int64."""
        return torch.repeat_interleave(torch.diff(self.frame_ends))

    def part(self, start: int, stop: int) -> Samples:
        """Chunks [start, stop)."""
        first, last = int(self.frame_ends[start]), int(self.frame_ends[stop])
        return Samples(
            {name: bags.part(first, last) for name, bags in self.bags.items()},
            self.frame_ends[start : stop + 1] - first,
            self.labels[start:stop],
        )

    def thinned(self, dropout: float, generator: torch.Generator) -> Samples:
        """The same frames with a random share of their n-grams left out."""
        bags = {
            name: bags.where(torch.rand(len(bags.ids), generator=generator) >= dropout)
            for name, bags in self.bags.items()
        }
        return Samples(bags, self.frame_ends, self.labels)


def pack(chunks: Sequence[str], labels: NDArray[np.int64]) -> tuple[Samples, NDArray[np.int64]]:
    """Find and pack the frames of ``chunks``.

    Returns
    -------
    Samples
        The chunks that have a frame, order kept.
    array of int64
        Their indices in ``chunks``.
    """
    found = find_frames(chunks)
    counts = np.fromiter(map(len, found), np.int64, len(found))
    kept = np.flatnonzero(counts)
    frames = [frame for of_chunk in found for frame in of_chunk]
    bags = dna_bags([frame.dna for frame in frames])
    bags |= peptide_bags([frame.peptide for frame in frames])
    frame_ends = torch.from_numpy(np.cumsum(np.concatenate(([0], counts[kept]))))
    return Samples(bags, frame_ends, torch.from_numpy(labels[kept])), kept


class WindowSource:
    """Draws windows of `SHORTEST_NT` to `LONGEST_NT` from genes, balanced over the labels.

    No strand is drawn: a window and its reverse complement have the same frames.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        self._dna = [gene.dna for gene in genes]
        length_nt = np.fromiter(map(len, self._dna), np.int64, len(genes))
        self._length_nt = length_nt
        kinds = np.array([gene.kind for gene in genes])
        self._pools = {
            kind: (pool, np.cumsum(np.clip(length_nt[pool] / LONGEST_NT, 0.5, _MOST_WINDOWS)))
            for kind in _SHARES
            if len(pool := np.flatnonzero(kinds == kind))
        }

    def draw(self, count: int, rng: np.random.Generator) -> Samples:
        """About ``count`` windows in random order, without those that have no open frame."""
        shares = np.array([_SHARES[kind] for kind in self._pools])
        noise = round(count * _NOISE_SHARE)
        counts = np.round((count - noise) * shares / shares.sum()).astype(int).tolist()
        windows: list[tuple[str, int]] = []
        for kind, wanted in zip(self._pools, counts, strict=True):
            windows += [(dna, int(kind == VIRUS)) for dna in self._windows(kind, wanted, rng)]
        shuffled = rng.integers(len(windows), size=noise).tolist()
        windows += [(shuffle(windows[index][0], rng), 0) for index in shuffled]
        order = rng.permutation(len(windows)).tolist()
        labels = np.array([windows[index][1] for index in order], np.int64)
        return pack([windows[index][0] for index in order], labels)[0]

    def _windows(self, kind: str, count: int, rng: np.random.Generator) -> list[str]:
        pool, weights = self._pools[kind]
        genes = pool[np.searchsorted(weights, rng.random(count) * weights[-1], side="right")]
        length_nt = rng.integers(SHORTEST_NT, LONGEST_NT + 1, count)
        spare = np.maximum(self._length_nt[genes] - length_nt, 0)
        starts = rng.integers(spare + 1)
        spans = zip(genes.tolist(), starts.tolist(), (starts + length_nt).tolist(), strict=True)
        return [self._dna[gene][start:end] for gene, start, end in spans]


def shuffle(dna: str, rng: np.random.Generator) -> str:
    """The letters of ``dna`` in random order."""
    return rng.permutation(np.frombuffer(dna.encode("ascii"), np.uint8)).tobytes().decode()
