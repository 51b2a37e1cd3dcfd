"""Predictions → calls: frames to chunks, chunks to contigs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import (
    Calibration,
    Floats,
    estimate_prevalence,
    probability,
    q_values,
)
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.tables import schemas
from virnuc_dask.tables.plan import Rows

IntArray = NDArray[np.int64]

_SCORES = ("record_index", "score_virus", "score_others")
NO_OPEN_FRAME = "no_open_frame"
FAILED = "failed"
VIRUS, OTHERS, UNSCORED, UNSURE = "virus", "others", "unscored", "unsure"


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


class _Summary(Protocol):
    """One score of every chunk, from those of its rows; any number where there are none."""

    def __call__(self, scores: Floats, rows: IntArray, chunks: int) -> Floats: ...


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
    """The calls of all records of a run, by record index.

    ``score`` is NaN where no chunk was scored, ``probability`` and ``q_value`` also without a
    calibration. ``order`` holds the indices of the scored records, the most viral first.
    ``prevalence`` is the estimated share of viruses; None without a calibration or a score.
    ``basis`` is there for a model set that reads genes.
    """

    rule: CallRule
    chunks_scored: NDArray[np.int64]
    score: Floats
    probability: Floats
    q_value: Floats
    call: NDArray[np.str_]  # `virus`, `others`, `unscored`; with a contig model also `unsure`
    order: NDArray[np.int64]
    prevalence: float | None
    basis: Basis | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """What the calls of records rest on that are read by genes, by record index."""

    genes: IntArray
    viral_genes: IntArray
    coding_density: Floats  # share of the record's bases that lie in a gene
    reliability: Floats  # in [0, 1]; NaN without a gene


class RecordScores(Protocol):
    """What the chunks and the rows of all records say, partition by partition."""

    def add(self, chunks: pa.Table, predictions: pa.Table | None) -> None:
        """Take in a partition's calls, and its predictions."""

    def calls(self) -> ContigCalls:
        """Call every record, from all that was added."""


def in_sample(evidence: Floats) -> tuple[float | None, Floats]:
    """Estimated share of viruses among the records, and their q-values; without evidence none."""
    if np.isnan(evidence).all():
        return None, evidence
    prevalence = estimate_prevalence(evidence)
    return prevalence, q_values(evidence, prevalence)


class ContigScores:
    """What each record's scored chunks say, summed partition by partition.

    A chunk counts with (1 + score_virus - score_others) / 2, in [0, 1], above one half where the
    chunk itself is called virus; with a calibration also with its evidence. 24 bytes a record,
    whatever its length.
    """

    def __init__(self, records: int, rule: CallRule | None = None) -> None:
        self._rule = rule or CallRule()
        self._score = np.zeros(records)
        self._evidence = np.zeros(records)
        self._scored = np.zeros(records, np.int64)

    def add(self, chunks: pa.Table, predictions: pa.Table | None = None) -> None:
        """Take in the calls of a partition."""
        scored = chunks.filter(chunks["call"].is_valid())
        self.add_scores(*(scored[name].to_numpy() for name in _SCORES))

    def add_scores(self, record: IntArray, virus: NDArray[Any], others: NDArray[Any]) -> None:
        """Take in both scores of chunks."""
        virus, others = virus.astype(np.float64), others.astype(np.float64)
        np.add.at(self._score, record, (1 + virus - others) / 2)
        np.add.at(self._scored, record, 1)
        if self._rule.calibration is not None:
            evidence = self._rule.calibration.chunk_evidence(virus, others)
            np.add.at(self._evidence, record, evidence)

    def score(self) -> Floats:
        """Mean score of each record; NaN where no chunk was scored."""
        scored = self._scored > 0
        return np.where(scored, self._score / np.maximum(self._scored, 1), np.nan)

    def evidence(self) -> Floats:
        """Evidence of each record; NaN without a calibration, or where no chunk was scored."""
        if self._rule.calibration is None:
            return np.full(len(self._score), np.nan)
        return self._rule.calibration.contig_evidence(self._evidence, self._scored)

    def calls(self) -> ContigCalls:
        """Call every record by the rule, from all that was added."""
        scored, rule = self._scored > 0, self._rule
        score, evidence = self.score(), self.evidence()
        prevalence, q_value = in_sample(evidence)
        chance = probability(evidence)
        if rule.fdr is not None:
            is_virus = q_value <= rule.fdr
        else:
            is_virus = (score if rule.calibration is None else chance) >= 0.5
        # Evidence ends somewhere: beyond, records with more of it in all their chunks go first.
        keys = (-score, -self._evidence, -evidence)
        order = np.lexsort([key[scored] for key in keys])
        return ContigCalls(
            rule=rule,
            chunks_scored=self._scored,
            score=score,
            probability=chance,
            q_value=q_value,
            call=np.where(scored, np.where(is_virus, VIRUS, OTHERS), UNSCORED),
            order=np.flatnonzero(scored)[order],
            prevalence=prevalence,
        )
