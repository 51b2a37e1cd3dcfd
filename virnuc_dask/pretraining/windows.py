"""Genes → random windows, their open frames and the frames' n-grams, packed for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from virnuc_dask.encoders.ngrams import BASES, NO_LETTER, RESIDUES, Bags, base_bags, residue_bags
from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.genes import GENOME, KINDS, OTHER, TRANSCRIPT, VIRUS, Gene
from virnuc_dask.pretraining.mutation import IS_STOP, codons_of, mutate
from virnuc_dask.pretraining.noise import noise
from virnuc_dask.sequences.frames import translate

SHORTEST_NT, LONGEST_NT = 200, 599

# Shares of what is drawn besides noise, where all kinds are there. Transcripts are few genes but
# all of the eukaryotes, so they are drawn more often.
_SHARES = {VIRUS: 0.50, OTHER: 0.26, TRANSCRIPT: 0.10, GENOME: 0.14}

# A gene is drawn in proportion to its length, up to so many windows' worth; of the whole genomes
# one as often as another.
_MOST_WINDOWS = 8

_AMBIGUOUS = 4
_CODE = np.full(256, _AMBIGUOUS, np.uint8)
_CODE[list(BASES.encode())] = range(4)
_CODONS = "".join(a + b + c for a in BASES for b in BASES for c in BASES)
_RESIDUE = np.array([RESIDUES.find(letter) for letter in translate(_CODONS)], np.int32)

Codes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """Chunks with at least one frame: their frames' n-grams, in order, and the chunks' labels.

    ``chunk_of_frame`` (int64) is for each frame the index of its chunk, rising; ``labels`` are 0
    (others) and 1 (virus), int64.
    """

    bags: Mapping[str, Bags]
    chunk_of_frame: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def thinned(self, dropout: float, generator: torch.Generator) -> Samples:
        """The same frames with a random share of their n-grams left out."""
        bags = {
            name: bags.where(torch.rand(len(bags.ids), generator=generator) >= dropout)
            for name, bags in self.bags.items()
        }
        return Samples(bags, self.chunk_of_frame, self.labels)


def open_frames(windows: Codes) -> tuple[Codes, Ints]:
    """The open frames of windows without ambiguous bases, as `find_frames` finds them.

    Parameters
    ----------
    windows
        Base codes, shape (windows, length).

    Returns
    -------
    array of uint8
        The frames' DNA, shape (frames, length - length % 3 + 1), padded with 4 where a frame is
        shorter: one codon, or the one base that follows the codons.
    array of int64
        For each frame the index of its window, rising; frames in the order F1 F2 F3 R1 R2 R3.
    """
    length = windows.shape[1]
    found, window_of = [], []
    for strand in (windows, 3 - windows[:, ::-1]):
        for offset in range(3):
            codons = (length - offset) // 3
            inside = strand[:, offset : offset + 3 * codons]
            rows = np.flatnonzero(~IS_STOP[codons_of(inside)].any(axis=1))
            frames = np.full((len(rows), length // 3 * 3 + 1), _AMBIGUOUS, np.uint8)
            dna = strand[rows, offset : offset + 3 * codons + 1]
            frames[:, : dna.shape[1]] = dna
            found.append(frames)
            window_of.append(rows)
    order = np.argsort(np.concatenate(window_of), kind="stable")
    return np.concatenate(found)[order], np.concatenate(window_of)[order]


def pack(windows: Codes, labels: Ints) -> tuple[Samples, Ints]:
    """Find the windows' frames and number their n-grams.

    Returns
    -------
    Samples
        The windows that have a frame, order kept.
    array of int64
        Their indices in ``windows``.
    """
    frames, window_of = open_frames(windows)
    kept, chunk_of_frame = np.unique(window_of, return_inverse=True)
    bags = base_bags(*_laid_out(np.where(frames == _AMBIGUOUS, NO_LETTER, frames.astype(np.int32))))
    codons = codons_of(np.minimum(frames[:, :-1], 3))
    residues = np.where((frames[:, 2:-1:3] == _AMBIGUOUS), NO_LETTER, _RESIDUE[codons])
    bags |= residue_bags(*_laid_out(residues))
    return Samples(bags, torch.from_numpy(chunk_of_frame), torch.from_numpy(labels[kept])), kept


class WindowSource:
    """Draws windows of `SHORTEST_NT` to `LONGEST_NT`, balanced over the labels.

    No strand is drawn: a window and its reverse complement have the same frames.

    Parameters
    ----------
    genes
        Of the training side.
    noise_share
        Of the windows that are noise, labelled `others`.
    mutated_share
        Highest share of a window's residues that is replaced; see `mutate`.

    Raises
    ------
    BadInputError
        If no gene of a label is long enough for a window.
    """

    def __init__(
        self, genes: Sequence[Gene], noise_share: float = 0.0, mutated_share: float = 0.0
    ) -> None:
        self._codes = _CODE[np.frombuffer("".join(g.dna for g in genes).encode(), np.uint8)]
        self._length_nt = np.fromiter((len(gene.dna) for gene in genes), np.int64, len(genes))
        self._starts = np.cumsum(self._length_nt) - self._length_nt
        kinds = np.array([gene.kind for gene in genes])
        self._pools = {kind: np.flatnonzero(kinds == kind) for kind in KINDS if kind in kinds}
        self._genome_nt = _of_own_genome([gene.genome for gene in genes], self._length_nt)
        self._longest_nt = self._longest()
        self._noise_share = noise_share
        self._mutate: Callable[..., Codes] = partial(mutate, highest_share=mutated_share)
        self._weights: dict[tuple[str, int], tuple[Ints, NDArray[np.float64]]] = {}

    def draw(self, count: int, rng: np.random.Generator) -> Samples:
        """About ``count`` windows of one random length, without those that have no open frame."""
        # All frames of such a length have as many codons.
        length = 3 * int(rng.integers(SHORTEST_NT // 3, (self._longest_nt - 2) // 3 + 1)) + 2
        windows, labels = self._real(count, length, rng)
        made = noise(
            windows[rng.integers(len(windows), size=round(count * self._noise_share))], rng
        )
        windows = np.concatenate([self._mutate(windows, rng=rng), made])
        return pack(windows, np.concatenate([labels, np.zeros(len(made), np.int64)]))[0]

    def _longest(self) -> int:
        """The longest window that both labels have genes for, in nt."""
        longest = {True: 0, False: 0}
        for kind, pool in self._pools.items():
            is_virus = kind == VIRUS
            longest[is_virus] = max(longest[is_virus], int(self._length_nt[pool].max()))
        label = min(longest, key=longest.__getitem__)
        if longest[label] < SHORTEST_NT:
            raise BadInputError(
                f"the longest {'viral' if label else 'other'} gene to train on has "
                f"{longest[label]} nt; windows have {SHORTEST_NT} or more. Give longer genes."
            )
        return min(LONGEST_NT, longest[label])

    def _real(self, count: int, length: int, rng: np.random.Generator) -> tuple[Codes, Ints]:
        others = sum(_SHARES[kind] for kind in self._pools if kind != VIRUS)
        shares = [0.5 if kind == VIRUS else 0.5 * _SHARES[kind] / others for kind in self._pools]
        wanted = np.round(count * (1 - self._noise_share) * np.array(shares)).astype(int)
        drawn = [self._draw(k, n, length, rng) for k, n in zip(self._pools, wanted, strict=True)]
        windows = np.concatenate(drawn)
        labels = np.repeat([int(kind == VIRUS) for kind in self._pools], [len(d) for d in drawn])
        clear = (windows != _AMBIGUOUS).all(axis=1)
        return windows[clear], labels[clear]

    def _draw(self, kind: str, count: int, length: int, rng: np.random.Generator) -> Codes:
        pool, weights = self._long_enough(kind, length)
        if not len(pool):
            return np.empty((0, length), np.uint8)
        genes = pool[np.searchsorted(weights, rng.random(count) * weights[-1], side="right")]
        starts = self._starts[genes] + rng.integers(self._length_nt[genes] - length + 1)
        windows: Codes = self._codes[starts[:, None] + np.arange(length)]
        return windows

    def _long_enough(self, kind: str, length: int) -> tuple[Ints, NDArray[np.float64]]:
        """The genes of ``kind`` that hold such a window, and the running sum of their weights."""
        if (kind, length) not in self._weights:
            pool = self._pools[kind][self._length_nt[self._pools[kind]] >= length]
            weights = np.clip(self._length_nt[pool] / LONGEST_NT, 0.5, _MOST_WINDOWS)
            if kind == GENOME:
                weights = self._length_nt[pool] / self._genome_nt[pool]
            self._weights[kind, length] = pool, np.cumsum(weights)
        return self._weights[kind, length]


def _of_own_genome(genomes: Sequence[str], length_nt: Ints) -> Ints:
    """For each gene the length of all genes of its genome."""
    _, number = np.unique(genomes, return_inverse=True)
    total: Ints = np.bincount(number, length_nt).astype(np.int64)
    return total[number]


def codes_of(chunks: Sequence[str]) -> tuple[Codes, Ints]:
    """Base codes of chunks of one length, and the indices of those without an ambiguous base."""
    length = len(chunks[0]) if chunks else 0
    codes = _CODE[np.frombuffer("".join(chunks).encode(), np.uint8)].reshape(len(chunks), length)
    clear = np.flatnonzero((codes != _AMBIGUOUS).all(axis=1))
    return codes[clear], clear


def _laid_out(letters: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
    """Texts of one length, shape (texts, length), end to end as `base_bags` wants them."""
    count, length = letters.shape
    bordered = np.full(count * (length + 1) + 6, NO_LETTER, np.int32)
    bordered[: count * (length + 1)].reshape(count, -1)[:, :-1] = letters
    starts = np.arange(count + 1, dtype=np.int32) * (length + 1)
    return torch.from_numpy(bordered), torch.from_numpy(starts)
