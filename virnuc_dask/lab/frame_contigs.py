"""Scored frames of long records → contigs drawn from these, and the contig model they teach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.lab.fitting.held_out import ScoredFrames
from virnuc_dask.lab.read_contigs import Contigs, learn_reader
from virnuc_dask.lab.recipe import VIRUSES, CalibrationSettings, ContigSettings
from virnuc_dask.lab.short_pieces import frame_columns
from virnuc_dask.lab.taught import Flags, Fragments
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.gene_sums import GeneColumns, IntArray
from virnuc_dask.modelsets.manifest import FRAMES
from virnuc_dask.sequences.chunks import Chunks

_FEWEST_CHUNKS = 3  # a record of fewer says little of how chunks add up
_LONGEST_CHUNKS = 40
_FEWEST_GROUPS = 10  # of each side, with records as long as the longest contigs
_FEWEST, _MOST = 200, 15_000  # contigs of each side
_COVERAGE = 4.0  # how often a base may be drawn, on average
_OTHERS = "prokaryote"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A run's records; arrays are by their index."""

    length_nt: IntArray
    is_virus: Flags
    group: IntArray
    fold: NDArray[np.int8]  # of the classifier that has not seen it; below 0 it is not used
    chunk_nt: int

    @property
    def chunks(self) -> IntArray:
        """How many each is cut into."""
        return -(-self.length_nt // self.chunk_nt)


class Drawn(NamedTuple):
    """Contigs that begin with a chunk of a record; arrays of one length."""

    record: IntArray
    chunk: IntArray  # of the record, from 0
    length_nt: IntArray


def draw(records: Labelled, seed: int) -> Drawn | None:
    """Draw contigs of lengths that are even on a scale of logarithms; None if there are too few.

    They are no longer than their records, `_LONGEST_CHUNKS`, and what `_FEWEST_GROUPS` reach.
    """
    chunk_nt, is_used = records.chunk_nt, records.fold >= 0
    sides = [np.flatnonzero(is_used & (records.is_virus == side)) for side in (True, False)]
    longest = min(_reached_nt(records.length_nt[s], records.group[s]) for s in sides)
    longest = min(longest, _LONGEST_CHUNKS * chunk_nt)
    if longest < _FEWEST_CHUNKS * chunk_nt:
        return None
    mean_nt = (longest - chunk_nt) / np.log(longest / chunk_nt)
    rng = np.random.default_rng(seed)
    drawn = []
    for side in sides:
        length = records.length_nt[side]
        usable = side[length >= chunk_nt]
        wanted = int(min(_COVERAGE * records.length_nt[usable].sum() / mean_nt, _MOST))
        if wanted < _FEWEST:
            return None
        nt = np.exp(rng.uniform(np.log(chunk_nt), np.log(longest), wanted)).astype(np.int64)
        drawn.append(_placed(usable, nt, records, rng))
    return Drawn(*(np.concatenate(column) for column in zip(*drawn, strict=True)))


def contigs_of(drawn: Drawn, frames: ScoredFrames, records: Labelled, seed: int) -> Contigs:
    """What the frames of drawn contigs add up to.

    A contig has the chunks that a run would cut it into. Each has the frames of a chunk of its
    record: of the two that it overlaps one by chance, the more likely the more they share.
    """
    chunks = -(-drawn.length_nt // records.chunk_nt)
    contig = np.repeat(np.arange(len(chunks)), chunks)
    start, end = Chunks(records.chunk_nt).spans(drawn.length_nt[contig], _counted(chunks))
    record = drawn.record[contig]
    step_nt = Chunks(records.chunk_nt).spans(records.length_nt[record], np.ones_like(record))[0]
    # A contig's first chunk is one of the record's own.
    chance = np.random.default_rng(seed).random(len(start))
    chunk = drawn.chunk[contig] + np.floor(start / step_nt + chance).astype(np.int64)
    chunk = np.minimum(chunk, records.chunks[record] - 1)
    row, place = _frames_of(frames, records.chunks, record, chunk)
    columns = _columns(frames, row, start[place], end[place])
    everyone = np.arange(len(chunks))
    return Contigs.of(columns, contig[place], everyone, drawn.length_nt.astype(np.float64))


def learn(drawn: Drawn, frames: ScoredFrames, records: Labelled, seed: int) -> ContigModel:
    """Fit the contig model, calibrated by contigs of folds that it had not seen."""
    is_virus, never = records.is_virus[drawn.record], np.zeros(len(drawn.record), np.bool_)
    fragments = Fragments(
        kind=np.where(is_virus, VIRUSES[0], _OTHERS),
        group=records.group[drawn.record],
        genome=drawn.record,
        tile=drawn.record,
        length_nt=drawn.length_nt.astype(np.float64),
        fold=records.fold[drawn.record],
        is_doubtful=never,
        is_prophage=never,
    )
    known_nt = {records.chunk_nt, *CalibrationSettings().lengths_nt}
    lengths_nt = tuple(nt for nt in sorted(known_nt) if nt >= records.chunk_nt)
    learnt = learn_reader(
        contigs_of(drawn, frames, records, seed),
        fragments,
        ~never,
        ContigSettings(),
        CalibrationSettings(lengths_nt=lengths_nt),
        seed,
    )
    return ContigModel({FRAMES: learnt.reader}, np.zeros(0, np.int64))


def _reached_nt(length_nt: IntArray, group: IntArray) -> int:
    """The length that `_FEWEST_GROUPS` groups have a record of; 0 if there are fewer groups."""
    names, place = np.unique(group, return_inverse=True)
    if len(names) < _FEWEST_GROUPS:
        return 0
    longest = np.zeros(len(names), np.int64)
    np.maximum.at(longest, place, length_nt)
    return int(np.sort(longest)[-_FEWEST_GROUPS])


def _placed(side: IntArray, nt: IntArray, records: Labelled, rng: np.random.Generator) -> Drawn:
    """Contigs of ``nt`` in those of ``side`` that are long enough, the longer ones more often."""
    ascending = side[np.argsort(records.length_nt[side], kind="stable")]
    length = records.length_nt[ascending]
    upto = np.concatenate([[0], np.cumsum(length)])
    before = upto[np.searchsorted(length, nt)]
    point = before + rng.random(len(nt)) * (upto[-1] - before)
    record = ascending[np.searchsorted(upto, point, side="right") - 1]
    length, last = records.length_nt[record], records.chunks[record] - 1
    last_start = Chunks(records.chunk_nt).spans(length, last)[0]
    # The first steps are the shorter ones: no contig reaches beyond its record.
    room = (length - nt) * last // np.maximum(last_start, 1)
    return Drawn(record, rng.integers(np.minimum(room, last) + 1), nt)


def _counted(counts: IntArray) -> IntArray:
    """0, 1, … up to each count, one after another."""
    before = np.cumsum(counts) - counts
    counted: IntArray = np.arange(counts.sum()) - np.repeat(before, counts)
    return counted


def _frames_of(
    frames: ScoredFrames, chunks: IntArray, record: IntArray, chunk: IntArray
) -> tuple[IntArray, IntArray]:
    """Rows of all frames of some chunks, and for each row which of these it belongs to."""
    before = np.cumsum(chunks) - chunks
    number = before[frames.record] + frames.chunk
    asked = before[record] + chunk
    first = np.searchsorted(number, asked)
    counts = np.searchsorted(number, asked, side="right") - first
    return np.repeat(first, counts) + _counted(counts), np.repeat(np.arange(len(asked)), counts)


def _columns(frames: ScoredFrames, row: IntArray, start: IntArray, end: IntArray) -> GeneColumns:
    table = pa.table({"length_nt": end - start, "is_forward": frames.is_forward[row]})
    return replace(frame_columns(table, frames.logit[row][:, None]), start=start, end=end)
