"""Predictions → calls: frames to chunks, chunks to contigs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from virnuc_dask.tables import schemas
from virnuc_dask.tables.plan import Rows

NO_OPEN_FRAME = "no_open_frame"
FAILED = "failed"
VIRUS, OTHERS, UNSCORED = "virus", "others", "unscored"


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
    rows = predictions["chunk_row"].to_numpy() if predictions is not None else np.empty(0, np.int64)
    frames = np.bincount(rows, minlength=len(chunks)).astype(np.int32)
    scored = frames > 0
    scores: dict[str, Any] = {}
    for name in ("score_others", "score_virus"):
        highest = np.full(len(chunks), -np.inf, np.float32)
        if predictions is not None:
            np.maximum.at(highest, rows, predictions[name].to_numpy())
        scores[name] = highest
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

    With a calibration a probability of one half, or, where ``fdr`` is given, a q-value of at most
    ``fdr``. Without one a score of one half; ``fdr`` has no meaning then.
    """

    calibration: Calibration | None = None
    fdr: float | None = None

    def __post_init__(self) -> None:
        if self.fdr is not None and self.calibration is None:
            raise ValueError("an FDR needs a calibration")

    def __str__(self) -> str:
        if self.fdr is not None:
            return f"q_value <= {self.fdr:g}"
        return "score >= 0.5" if self.calibration is None else "probability >= 0.5"


@dataclass(frozen=True, slots=True)
class ContigCalls:
    """The calls of all records of a run, by record index.

    ``score`` is NaN where no chunk was scored, ``probability`` and ``q_value`` also without a
    calibration. ``order`` holds the indices of the scored records, the most viral first.
    ``prevalence`` is the estimated share of viruses; None without a calibration or a score.
    """

    rule: CallRule
    chunks_scored: NDArray[np.int64]
    score: Floats
    probability: Floats
    q_value: Floats
    call: NDArray[np.str_]  # `virus`, `others`, `unscored`
    order: NDArray[np.int64]
    prevalence: float | None


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

    def add(self, chunks: pa.Table) -> None:
        """Take in the calls of a partition."""
        scored = chunks.filter(chunks["call"].is_valid())
        record = scored["record_index"].to_numpy()
        virus = scored["score_virus"].to_numpy().astype(np.float64)
        others = scored["score_others"].to_numpy().astype(np.float64)
        np.add.at(self._score, record, (1 + virus - others) / 2)
        np.add.at(self._scored, record, 1)
        if self._rule.calibration is not None:
            evidence = self._rule.calibration.chunk_evidence(virus, others)
            np.add.at(self._evidence, record, evidence)

    def calls(self) -> ContigCalls:
        """Call every record by the rule, from all that was added."""
        scored, rule = self._scored > 0, self._rule
        score = np.where(scored, self._score / np.maximum(self._scored, 1), np.nan)
        evidence = np.full(len(score), np.nan)
        if rule.calibration is not None:
            evidence = rule.calibration.contig_evidence(self._evidence, self._scored)
        prevalence = None if np.isnan(evidence).all() else estimate_prevalence(evidence)
        chance = probability(evidence)
        q_value = evidence if prevalence is None else q_values(evidence, prevalence)
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
