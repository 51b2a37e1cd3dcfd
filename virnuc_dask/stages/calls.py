"""Predictions → calls: frames to chunks, chunks to contigs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Calibration, Floats, probability
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.stages.sample import Sample
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import RecordRows
from virnuc_dask.tables.parquet import ROWS
from virnuc_dask.tables.plan import Rows

IntArray = NDArray[np.int64]
# One score of every chunk, from those of its rows; any number where there are none.
_Summary = Callable[[Floats, IntArray, int], Floats]

_SCORES = ("record_index", "score_virus", "score_others", "start", "end")
NO_OPEN_FRAME = "no_open_frame"
FAILED = "failed"
VIRUS, OTHERS, UNSCORED, UNSURE = "virus", "others", "unscored", "unsure"
VIRUS_REGION = "virus_region"  # no virus as a whole, and there is one in it


def call_chunks(
    chunks: pa.Table, predictions: pa.Table | None, failed: Sequence[Rows] = ()
) -> pa.Table:
    """One call per chunk of a partition; see `schemas.CHUNKS`.

    A chunk's scores are the largest of its frames', each on its own, and it is `virus` if that
    of virus is not the smaller one: the published rule, a tie included. A chunk without a frame
    has no call but a reason.

    Parameters
    ----------
    chunks
        The partition's rows, without their sequences.
    predictions
        Of the same partition; None if all of it failed.
    failed
        Rows of which there are no predictions.
    """
    return _called(chunks, predictions, failed, _highest)


def call_pieces(
    pieces: pa.Table, predictions: pa.Table | None, failed: Sequence[Rows] = ()
) -> pa.Table:
    """As `call_chunks`, of a model set that reads genes: scores are the means of a piece's rows."""
    return _called(pieces, predictions, failed, _mean)


def _highest(scores: Floats, rows: IntArray, chunks: int) -> Floats:
    highest = np.full(chunks, -np.inf)
    np.maximum.at(highest, rows, scores)
    return highest


def _mean(scores: Floats, rows: IntArray, chunks: int) -> Floats:
    count = np.bincount(rows, minlength=chunks)
    mean: Floats = np.bincount(rows, scores, chunks) / np.maximum(count, 1)
    return mean


def _called(
    chunks: pa.Table, predictions: pa.Table | None, failed: Sequence[Rows], summary: _Summary
) -> pa.Table:
    rows = predictions["chunk_row"].to_numpy() if predictions is not None else np.empty(0, np.int64)
    frames = np.bincount(rows, minlength=len(chunks)).astype(np.int32)
    scored = frames > 0
    scores: dict[str, NDArray[np.float32]] = {}
    for name in ("score_others", "score_virus"):
        of_rows = np.empty(0) if predictions is None else predictions[name].to_numpy()
        scores[name] = summary(of_rows.astype(np.float64), rows, len(chunks)).astype(np.float32)
    is_virus = scores["score_virus"] >= scores["score_others"]
    reason = np.full(len(chunks), NO_OPEN_FRAME if predictions is not None else FAILED)
    for first, end in failed:
        reason[first:end] = FAILED
    columns = [
        *(chunks[field.name] for field in schemas.CHUNKS if field.name in chunks.column_names),
        pa.array(frames),
        pa.array(scores["score_others"], mask=~scored),
        pa.array(scores["score_virus"], mask=~scored),
        pa.array(np.where(is_virus, VIRUS, OTHERS), pa.string(), mask=~scored),
        pa.array(reason, pa.string(), mask=scored),
    ]
    return pa.table(columns, schema=schemas.CHUNKS)


@dataclass(frozen=True, slots=True)
class CallRule:
    """What makes a record a virus.

    With a calibration a probability of one half, with a contig model that of `threshold`; or,
    where ``fdr`` is given, a q-value of at most ``fdr``. Without either a score of one half;
    ``fdr`` has no meaning then. With a contig model a record below the reliability ``reliable`` is
    unsure.
    """

    calibration: Calibration | None = None
    fdr: float | None = None
    contig_model: ContigModel | None = None
    called: tuple[tuple[float, float], ...] = ((1, 0.5),)  # length in nt, probability
    reliable: float = 0.0

    def __post_init__(self) -> None:
        if self.fdr is not None and not self.has_probability:
            raise ValueError("an FDR needs a calibration")

    @property
    def has_probability(self) -> bool:
        """Whether records have a probability, and so a q-value."""
        return self.calibration is not None or self.contig_model is not None

    def threshold(self, length_nt: NDArray[Any]) -> Floats:
        """The probability from which on a contig model's record of each length is a virus."""
        lengths, chances = np.array(self.called, np.float64).T
        found: Floats = np.interp(np.log(np.maximum(length_nt, 1)), np.log(lengths), chances)
        return found

    def __str__(self) -> str:
        if self.fdr is not None:
            return f"q_value <= {self.fdr:g}"
        if self.contig_model is not None:
            least, most = (f(chance for _, chance in self.called) for f in (min, max))
            by_length = "" if least == most else f" to {most:g}, by length"
            return f"probability >= {least:g}{by_length}"
        return "score >= 0.5" if self.calibration is None else "probability >= 0.5"


@dataclass(frozen=True, slots=True)
class ContigCalls:
    """The calls of records that follow one another; arrays by record.

    ``score`` is NaN where no chunk was scored, ``probability`` and ``q_value`` also without a
    calibration. ``virus_fraction`` is the share of the scored chunks' length that lies in those
    called virus, NaN without one; see `region_calls.regarded` for records that are read by genes.
    ``prevalence`` is the estimated share of viruses among all records of the run; None without a
    calibration or a score. ``basis`` is there for a model set that reads genes.
    """

    rule: CallRule
    chunks_scored: IntArray
    chunks_virus: IntArray
    virus_fraction: Floats
    score: Floats
    probability: Floats
    q_value: Floats
    # `virus`, `others`, `unscored`; with a contig model also `unsure`; see `region_calls.regarded`
    call: NDArray[np.str_]
    rank: Floats  # (records, keys): the larger, the more viral; the first key counts most
    prevalence: float | None
    basis: Basis | None = None

    @staticmethod
    def joined(pieces: Iterable[ContigCalls]) -> ContigCalls:
        """The calls of all of them."""
        return _each(list(pieces), np.concatenate)

    def take(self, rows: slice | IntArray) -> ContigCalls:
        """The calls of some records."""
        return _each([self], lambda arrays: arrays[0][rows])

    @property
    def order(self) -> IntArray:
        """Rows of the scored records, the most viral first; among equals the earlier."""
        scored = np.flatnonzero(self.chunks_scored)
        return scored[np.lexsort(-self.rank[scored, ::-1].T)]

    def __len__(self) -> int:
        return len(self.call)


@dataclass(frozen=True, slots=True)
class Basis:
    """What the calls of records rest on that are read by genes, by record."""

    genes: IntArray
    viral_genes: IntArray
    coding_density: Floats  # share of the record's bases that lie in a gene
    reliability: Floats  # in [0, 1]; NaN without a gene


_Arrays = TypeVar("_Arrays", "ContigCalls", Basis)


def _each(pieces: Sequence[_Arrays], make: Callable[[Sequence[Any]], Any]) -> _Arrays:
    """The first of several, with arrays that are made of those of all."""
    made: dict[str, Any] = {}
    for name in (field.name for field in fields(pieces[0])):
        values = [getattr(piece, name) for piece in pieces]
        if isinstance(values[0], np.ndarray):
            made[name] = make(values)
        elif isinstance(values[0], Basis):
            made[name] = _each(values, make)
    return replace(pieces[0], **made)


class RecordScores(Protocol):
    """What the chunks and the rows of all records say, partition by partition."""

    def add(self, chunks: pa.Table, predictions: pa.Table | None) -> None:
        """Take in a partition's calls, and its predictions."""

    def calls(self) -> Iterator[ContigCalls]:
        """Call every record, from all that was added: many at a time, in order."""


# What the scored chunks of a record add up to.
SUMS = np.dtype(
    [
        *((name, np.int64) for name in ("chunks_scored", "chunks_virus", "scored_nt", "virus_nt")),
        *((name, np.float64) for name in ("score", "evidence")),
    ]
)
Sums = NDArray[Any]


def add_scores(
    sums: Sums,
    at: IntArray,
    virus: Floats,
    others: Floats,
    length_nt: IntArray,
    calibration: Calibration | None,
) -> None:
    """Take both scores and lengths of chunks into their records' `SUMS`, the rows ``at``."""
    is_virus = virus >= others  # as `call_chunks`
    np.add.at(sums["chunks_virus"], at, is_virus)
    np.add.at(sums["scored_nt"], at, length_nt)
    np.add.at(sums["virus_nt"], at, length_nt * is_virus)
    virus, others = virus.astype(np.float64), others.astype(np.float64)
    np.add.at(sums["score"], at, (1 + virus - others) / 2)
    np.add.at(sums["chunks_scored"], at, 1)
    if calibration is not None:
        np.add.at(sums["evidence"], at, calibration.chunk_evidence(virus, others))


def mean_score(sums: Sums) -> Floats:
    """Mean score of each record; NaN where no chunk was scored."""
    scored = sums["chunks_scored"]
    return np.where(scored > 0, sums["score"] / np.maximum(scored, 1), np.nan)


def virus_fraction(sums: Sums) -> Floats:
    """Share of each record's scored length that lies in chunks called virus; NaN without one."""
    scored = sums["scored_nt"]
    return np.where(scored > 0, sums["virus_nt"] / np.maximum(scored, 1), np.nan)


def evidence_of(sums: Sums, calibration: Calibration | None) -> Floats:
    """Evidence of each record; NaN without a calibration, or where no chunk was scored."""
    if calibration is None:
        return np.full(len(sums), np.nan)
    return calibration.contig_evidence(sums["evidence"], sums["chunks_scored"])


class ContigScores:
    """What each record's scored chunks say, summed partition by partition.

    A chunk counts with (1 + score_virus - score_others) / 2, in [0, 1], above one half where the
    chunk itself is called virus; with a calibration also with its evidence.

    Parameters
    ----------
    records
        How many there are.
    folder
        Where what is known of them lies on disk meanwhile: see `RecordRows`.
    """

    def __init__(
        self, records: int, rule: CallRule | None = None, folder: Path | None = None
    ) -> None:
        self._rule, self._folder = rule or CallRule(), folder
        sizes = (min(ROWS, records - first) for first in range(0, records, ROWS))
        self._rows = RecordRows((np.zeros(size, SUMS) for size in sizes), SUMS, folder)

    def add(self, chunks: pa.Table, predictions: pa.Table | None = None) -> None:
        """Take in the calls of a partition."""
        scored = chunks.filter(chunks["call"].is_valid())
        record, virus, others, start, end = (scored[name].to_numpy() for name in _SCORES)
        if len(record):
            sums = self._rows.within(record[0], record[-1])
            at, calibration = record - record[0], self._rule.calibration
            add_scores(sums, at, virus, others, end - start, calibration)
            self._rows.end(record[-1])

    def calls(self) -> Iterator[ContigCalls]:
        """Call every record by the rule, from all that was added."""
        evidence = (evidence_of(sums, self._rule.calibration) for sums in self._rows.pieces())
        sample = Sample(evidence, self._rule.fdr, self._folder)
        for sums in self._rows.pieces():
            yield self._called(sums, sample)

    def _called(self, sums: Sums, sample: Sample) -> ContigCalls:
        rule, scored, score = self._rule, sums["chunks_scored"], mean_score(sums)
        evidence = evidence_of(sums, rule.calibration)
        chance, q_value = probability(evidence), sample.q_values(evidence)
        if rule.fdr is not None:
            is_virus = q_value <= rule.fdr
        else:
            is_virus = (score if rule.calibration is None else chance) >= 0.5
        return ContigCalls(
            rule=rule,
            chunks_scored=scored,
            chunks_virus=sums["chunks_virus"],
            virus_fraction=virus_fraction(sums),
            score=score,
            probability=chance,
            q_value=q_value,
            call=np.where(scored > 0, np.where(is_virus, VIRUS, OTHERS), UNSCORED),
            # Evidence ends somewhere: beyond, records with more of it in all their chunks go first.
            rank=np.stack([evidence, sums["evidence"], score], axis=1),
            prevalence=sample.prevalence,
        )
