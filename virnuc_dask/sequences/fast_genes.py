"""The fast gene caller: many times as fast as pyrodigal-gv, from which its models were learnt.

Frames from stop to stop are scored by their pairs of neighbouring codons, against open frames that
are no genes, by GC content; their starts by codon, ribosome binding site and the bases before it.
Of frames that overlap, those are genes whose scores add up to most. It knows translation table 11
alone. Commit f497c65 has the program that fitted the models, ``lab/gene_tables.py``.

Sequences are scored together, as in `frames`: laid end to end, places sorted modulo three, so that
a frame is a slice. What is summed over frames is integers, so that scores do not depend on what a
sequence is laid beside; held by tests/sequences/test_genes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.sequences import bases
from virnuc_dask.sequences.gene_columns import CALL, START_TYPES
from virnuc_dask.sequences.gene_paths import genes_among

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

MODELS = "gene_models.npz"
GC_BINS, LOWEST_GC, HIGHEST_GC = 12, 0.2, 0.8
CODONS = bases.UNKNOWN_CODON + 1
PAIR_UNIT = 1 / 32  # nats
SPACERS = np.arange(3, 13)  # nt between a motif of six bases and the start
UPSTREAM_NT = 24  # before a start, which its score reads

# As pyrodigal's, in codons with the stop: of genes with both ends, and of those at an edge.
_SHORTEST, _SHORTEST_AT_EDGE = 30, 20
# Below, it is no candidate.
_LEAST_CODING, _LEAST_SCORE = -8.0, -4.0
_ODDS_UNIT = np.float32(4.35)  # pyrodigal's, of scores that make its confidence

_APART = b"N" * 30  # between sequences: no score reads over it
ATG, GTG, TTG, EDGE = map(START_TYPES.index, ("ATG", "GTG", "TTG", "edge"))
_STARTS = {bases.CODONS.index(START_TYPES[start]): start for start in (ATG, GTG, TTG)}
_STOPS = [bases.CODONS.index(stop) for stop in bases.STOPS]
_START, _STOP = 1, 2
_KIND = bytes(_STOP if n in _STOPS else _START if n in _STARTS else 0 for n in range(256))
_TYPE = np.full(CODONS, EDGE, np.uint8)
_TYPE[list(_STARTS)] = list(_STARTS.values())


@dataclass(frozen=True, slots=True)
class GeneModels:
    """What was learnt of pyrodigal-gv's genes."""

    pairs: NDArray[np.int8]  # (GC_BINS, CODONS²) of a codon and the next: log-odds in PAIR_UNIT
    motif: Floats  # (4097,) of six bases, then of unknown ones: log-odds in nats
    spacer: Floats  # (SPACERS,)
    upstream: Floats  # (UPSTREAM_NT, 5) of a base so far before a start, the nearest last
    start: Floats  # weights of `start_features`
    gene: Floats  # weights of `gene_features`, then the constant
    link: Floats  # of neighbours: an overlap's nt, on one strand, on two
    units: Floats  # (5, 3): our scores → pyrodigal's, see `_describe`

    @staticmethod
    @cache
    def load() -> GeneModels:
        """The models that ship."""
        with (files(__package__) / MODELS).open("rb") as stream, np.load(stream) as held:
            return GeneModels(**held)


class Strand(NamedTuple):
    """One strand of a block: letters and codons by place, codons by phase, then by place."""

    code: Bytes
    codon: Bytes
    layout: Bytes
    kind: Bytes  # of the layout's codons: start, stop, neither
    first: IntArray  # where each sequence begins
    last: IntArray


class Frames(NamedTuple):
    """Open frames, and the starts that a gene in them can have, by frame, then by place."""

    stop: IntArray  # place in the layout: of the stop, or the first codon that is not whole
    cut: BoolArray  # it is the latter
    first: IntArray  # row of the frame's first start
    frame: IntArray  # of each start: row of its frame
    start: IntArray  # of each start: place in the layout
    edge: BoolArray  # of each start: the gene begins before the sequence does
    coding: Floats  # of each start: log-odds from there to the stop, in nats


# What may be a gene: the row of its sequence; its log-odds of being one, all neighbours apart.
CANDIDATE = np.dtype([("sequence", np.int64), ("score", np.float32), *CALL.descr])


def call_genes(sequences: Sequence[str], models: GeneModels) -> list[NDArray[np.void]]:
    """The genes of each of ``sequences``, upper case: rows of `CALL`, ordered by their ends."""
    found = candidates(sequences, models) if sequences else np.empty(0, CANDIDATE)
    genes = found[genes_among(found, models.link)]
    calls = np.array(genes[list(CALL.names or ())], CALL)
    return np.split(calls, np.searchsorted(genes["sequence"], np.arange(1, len(sequences))))


def candidates(sequences: Sequence[str], models: GeneModels) -> NDArray[np.void]:
    """What may be genes of a block of sequences: rows of `CANDIDATE`, by sequence, then by end."""
    forward, reverse = strands_of(sequences)
    bins = gc_bins(forward)
    ahead, back = _of_strand(forward, bins, models), _of_strand(reverse, bins[::-1], models)
    both = np.concatenate([ahead, _turned(back, reverse)])
    return both[np.lexsort((both["strand"], both["start"], both["end"], both["sequence"]))]


def strands_of(sequences: Sequence[str]) -> tuple[Strand, Strand]:
    """Both strands of a block; on the reverse one, the last sequence is the first."""
    text = _APART + b"".join(dna.encode("ascii") + _APART for dna in sequences)
    text += b"N" * (-len(text) % 3)
    length = np.fromiter(map(len, sequences), np.int64, len(sequences))
    last = np.cumsum(length + len(_APART))
    code = bases.numbers_of(text)
    mirrored = (len(code) - last)[::-1], (len(code) - last + length)[::-1]
    return _strand(code, last - length, last), _strand(bases.other_strand(code), *mirrored)


def _strand(code: Bytes, first: IntArray, last: IntArray) -> Strand:
    codon = bases.codons_of(code)
    layout = np.concatenate([codon[phase::3] for phase in range(3)])
    # Many times as fast as to look each up in an array.
    kind = np.frombuffer(bytearray(layout.tobytes().translate(_KIND)), np.uint8)
    # A codon that is not whole, at the ends of a sequence: a stop in each phase.
    for edge in (first - 3, last - 2):
        for place in (edge, edge + 1, edge + 2):
            kind[place % 3 * (len(code) // 3) + place // 3] = _STOP
    return Strand(code, codon, layout, kind, first, last)


def places(strand: Strand, rows: IntArray) -> IntArray:
    """Places in the layout → in the block."""
    phase, row = np.divmod(rows, len(strand.code) // 3)
    return row * 3 + phase


def gc_bins(strand: Strand) -> IntArray:
    """Of each sequence of a block."""
    is_gc, is_known = (strand.code == 1) | (strand.code == 2), strand.code < 4
    gc, known = (np.add.reduceat(of, strand.first, dtype=np.int64) for of in (is_gc, is_known))
    share = (gc / np.maximum(known, 1) - LOWEST_GC) / (HIGHEST_GC - LOWEST_GC)
    return np.clip(share * GC_BINS, 0, GC_BINS - 1).astype(np.int64)


def running_scores(strand: Strand, bins: IntArray, models: GeneModels) -> NDArray[np.int32]:
    """Sums of the scores of all pairs before each codon of the layout.

    They may wrap around: a difference of two is right all the same.
    """
    # For each codon but the last: the row of it and the next one in the pairs.
    rows = strand.layout[:-1] * np.uint16(CODONS) + strand.layout[1:]
    if len(bins) == 1:
        scores = models.pairs[bins[0]][rows]
    else:
        between = (strand.last[:-1] + strand.first[1:]) // 2
        lengths = np.diff(np.concatenate([[0], between, [len(strand.code)]]))
        of_place = np.repeat((bins * CODONS**2).astype(np.int32), lengths)
        of_layout = np.concatenate([of_place[phase::3] for phase in range(3)])
        scores = models.pairs.ravel()[of_layout[:-1] + rows]
    total = np.zeros(len(strand.layout), np.int32)
    np.cumsum(scores.astype(np.int32), out=total[1:])  # thrice as fast as if it had to convert
    return total


def open_frames(strand: Strand, total: NDArray[np.int32]) -> Frames:
    """Frames and starts that leave room for a gene."""
    stops = np.flatnonzero(strand.kind == _STOP)
    wide = np.flatnonzero(np.diff(stops) > _SHORTEST_AT_EDGE)
    before, stop = stops[wide], stops[wide + 1]
    cut = strand.layout[stop] == bases.UNKNOWN_CODON
    starts = np.flatnonzero(strand.kind == _START)
    frame = np.searchsorted(before, starts, "right") - 1
    inside = np.flatnonzero(frame >= 0)
    inside = inside[starts[inside] < stop[frame[inside]]]
    begun = np.flatnonzero(strand.layout[before] == bases.UNKNOWN_CODON)
    frame = np.concatenate([frame[inside], begun])
    start = np.concatenate([starts[inside], before[begun] + 1])
    edge = np.repeat([False, True], [len(inside), len(begun)])
    codons = stop[frame] - start + ~cut[frame]
    long = np.flatnonzero(codons >= np.where(edge | cut[frame], _SHORTEST_AT_EDGE, _SHORTEST))
    long = long[np.lexsort((~edge[long], start[long]))]
    coding = (total[stop[frame]] - total[start]) * np.float32(PAIR_UNIT)
    found = Frames(stop, cut, np.empty(0, np.int64), frame, start, edge, coding)
    return _with_starts(found, long)


def _with_starts(frames: Frames, rows: IntArray) -> Frames:
    """Of the starts those ``rows``, by place, and the frames that have one of them."""
    is_first = np.diff(frames.frame[rows], prepend=-1) > 0
    first = np.flatnonzero(is_first)
    held = frames.frame[rows[first]]
    rest = frames.start[rows], frames.edge[rows], frames.coding[rows]
    return Frames(frames.stop[held], frames.cut[held], first, np.cumsum(is_first) - 1, *rest)


def promising(frames: Frames) -> Frames:
    """The frames that have a start from which they look like coding."""
    best = _most(frames.coding, frames)
    return _with_starts(frames, np.flatnonzero(best[frames.frame] >= _LEAST_CODING))


def _most(of_starts: Floats, frames: Frames) -> Floats:
    """The highest value among the starts of each frame."""
    return np.maximum.reduceat(of_starts, frames.first) if len(frames.stop) else of_starts


def motif_rows(strand: Strand, place: IntArray) -> IntArray:
    """The six bases so many `SPACERS` before each place, as rows of the motifs."""
    at = (place - 6 - SPACERS[:, None]).T  # so laid out, the best of each row is found faster
    one, two = strand.codon[at].astype(np.int64), strand.codon[at + 3]
    return np.where((one < bases.UNKNOWN_CODON) & (two < bases.UNKNOWN_CODON), one * 64 + two, 4096)


def start_features(strand: Strand, frames: Frames, models: GeneModels) -> list[Floats]:
    """Of each start: its type, its motif, the bases before, what it loses to the frame's best."""
    place = places(strand, frames.start)
    motif = (models.motif[motif_rows(strand, place)] + models.spacer).max(1, initial=-9)
    before = strand.code[place[:, None] + np.arange(-UPSTREAM_NT, 0)]
    upstream = models.upstream[np.arange(UPSTREAM_NT), before]
    kind = np.where(frames.edge, EDGE, _TYPE[strand.layout[frames.start]])
    codons = (frames.stop[frames.frame] - frames.start).astype(np.float32)
    columns = [
        *(kind == number for number in (ATG, GTG, TTG, EDGE)),
        np.where(frames.edge, 0, motif),
        np.where(frames.edge, 0, upstream.sum(1)),
        frames.coding - _most(frames.coding, frames)[frames.frame],
        np.log(codons / codons[frames.first][frames.frame]),
    ]
    return [column.astype(np.float32) for column in columns]


def chosen_starts(frames: Frames, score: Floats) -> IntArray:
    """For each frame the row of its best start, the longest of equals."""
    rows = np.flatnonzero(score == _most(score, frames)[frames.frame])
    return rows[np.diff(frames.frame[rows], prepend=-1) > 0]


def gene_features(
    frames: Frames, chosen: IntArray, start_score: Floats, bins: IntArray
) -> list[Floats]:
    """Of each frame with its chosen start: what tells genes from other open frames."""
    coding, edge = frames.coding[chosen], frames.edge[chosen]
    codons = (frames.stop - frames.start[chosen]).astype(np.float32)
    gc = bins.astype(np.float32) / GC_BINS
    columns = [
        coding,
        np.minimum(coding, 20),
        coding / codons,
        np.log(codons),
        np.minimum(codons, 200) / 100,
        np.where(edge, 0, start_score[chosen]),
        edge,
        frames.cut,
        edge & frames.cut,
        gc,
        gc * np.log(codons),
    ]
    return [column.astype(np.float32) for column in columns]


def weighed(columns: Sequence[Floats], weights: Floats) -> Floats:
    """Their sum with these weights, to the bit the same whatever else is in the columns."""
    products = [column * weight for column, weight in zip(columns, weights, strict=False)]
    return np.asarray(sum(products[1:], start=products[0]), np.float32)


def _of_strand(strand: Strand, bins: IntArray, models: GeneModels) -> NDArray[np.void]:
    """What may be genes on a strand, each with its best start: rows of `CANDIDATE`."""
    frames = promising(open_frames(strand, running_scores(strand, bins, models)))
    features = start_features(strand, frames, models)
    start_score = weighed(features, models.start)
    chosen = chosen_starts(frames, start_score)
    place = places(strand, frames.start[chosen])
    sequence = np.searchsorted(strand.first, place, "right") - 1
    of_genes = gene_features(frames, chosen, start_score, bins[sequence])
    found = np.zeros(len(place), CANDIDATE)
    found["sequence"], found["strand"] = sequence, 1
    found["score"] = weighed(of_genes, models.gene) + models.gene[-1]
    found["start"] = place - strand.first[sequence]
    found["end"] = places(strand, frames.stop) + 3 * ~frames.cut - strand.first[sequence]
    found["partial_left"], found["partial_right"] = frames.edge[chosen], frames.cut
    _describe(found, frames, chosen, features, models)
    return found[found["score"] > _LEAST_SCORE]


def _describe(
    found: NDArray[np.void],
    frames: Frames,
    chosen: IntArray,
    features: Sequence[Floats],
    models: GeneModels,
) -> None:
    """Fill in what `CALL` says of genes beside their places, in pyrodigal's units."""
    of_coding, of_motif, of_upstream, of_types, others = models.units
    kind = np.stack([column[chosen] for column in features[:4]]).argmax(0)
    motif, upstream, edge = features[4][chosen], features[5][chosen], frames.edge[chosen]
    codons = (frames.stop - frames.start[chosen]).astype(np.float32)
    one = np.ones_like(codons)
    found["translation_table"], found["model"] = 11, -1
    found["start_type"] = kind
    found["rbs"] = ~edge & (motif > others[1])
    found["coding_score"] = weighed([frames.coding[chosen], codons, one], of_coding)
    found["rbs_score"] = np.where(edge, 0, weighed([motif, upstream, one], of_motif))
    found["upstream_score"] = np.where(edge, 0, weighed([motif, upstream, one], of_upstream))
    found["type_score"] = np.append(of_types, others[0])[kind]
    found["start_score"] = found["rbs_score"] + found["upstream_score"] + found["type_score"]
    odds = (found["coding_score"] + found["start_score"]) / _ODDS_UNIT
    found["confidence"] = 1 / (1 + np.exp(-odds.clip(0, 12)))


def _turned(found: NDArray[np.void], strand: Strand) -> NDArray[np.void]:
    """Candidates of the reverse strand as seen from the forward one."""
    turned = found.copy()
    length = (strand.last - strand.first)[found["sequence"]]
    turned["sequence"] = len(strand.first) - 1 - found["sequence"]
    turned["start"], turned["end"] = length - found["end"], length - found["start"]
    turned["partial_left"], turned["partial_right"] = found["partial_right"], found["partial_left"]
    turned["strand"] = -1
    return turned
