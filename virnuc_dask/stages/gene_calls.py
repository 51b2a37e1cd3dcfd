"""Predictions of a model set that reads genes → calls of records, by its contig model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Floats, probability
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.gene_sums import GeneColumns, GeneSums
from virnuc_dask.modelsets.manifest import FRAMES, GENES
from virnuc_dask.stages.calls import (
    OTHERS,
    SUMS,
    UNSCORED,
    UNSURE,
    VIRUS,
    Basis,
    CallRule,
    ContigCalls,
    IntArray,
    add_scores,
    evidence_of,
    mean_score,
    virus_fraction,
)
from virnuc_dask.stages.predict import viral_logit
from virnuc_dask.stages.sample import Sample
from virnuc_dask.stages.whole_records import WholeRecords, begins
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import RecordRows
from virnuc_dask.tables.vectors import to_column

Flags = NDArray[np.bool_]

# What is known of a record; ``frames`` counts only where it has no gene.
_RECORD = np.dtype(
    [
        *((name, np.int64) for name in ("length_nt", "chunks_scored", "genes", "viral_genes")),
        ("coding_nt", np.int64),
        ("evidence", np.float64),  # by the contig model; NaN where it said nothing
        ("reliability", np.float64),
        ("frames", SUMS),
    ]
)
Known = NDArray[Any]


class GeneScores:
    """What the genes of each record say; or its frames, where it has no gene.

    Frames are weighed by the contig model, if it knows how; else as by a set that reads frames.
    They are looked at once their record has ended, see `WholeRecords`.

    Parameters
    ----------
    lengths_nt
        Of all records, many at a time.
    pass_on
        Is given the genes of all records, in order, many at a time.
    reads_genes
        False: all rows are frames, scores stay what they are without a contig model, and what calls
        rest on is not told. The contig model judges no record that is shorter than those it knows:
        it may have been taught whole chunks alone.
    folder
        Where what is known of records lies on disk meanwhile: see `RecordRows`.
    """

    def __init__(
        self,
        lengths_nt: Iterable[IntArray],
        rule: CallRule,
        model: ContigModel,
        pass_on: Callable[[pa.Table], None] = lambda _: None,
        *,
        reads_genes: bool = True,
        folder: Path | None = None,
    ) -> None:
        self._rule, self._model, self._folder = rule, model, folder
        self._pass_on = pass_on
        self._whole = WholeRecords(self._end_records)
        self._reads_genes = reads_genes
        known_nt = None if reads_genes else model.readers[FRAMES].calibration.length_nt
        self._least_nt = 0 if known_nt is None else known_nt[0]
        self._records = RecordRows(map(_unknown, lengths_nt), _RECORD, folder)

    def add(self, chunks: pa.Table, predictions: pa.Table | None) -> None:
        """Take in a partition's calls, and its predictions; None if all of it failed."""
        record = chunks["record_index"].to_numpy()
        if len(record):
            is_scored = chunks["call"].is_valid().to_numpy()
            known = self._records.within(record[0], record[-1])
            np.add.at(known["chunks_scored"], record[is_scored] - record[0], 1)
        if predictions is not None:
            rows = predictions if self._reads_genes else rows_of_frames(chunks, predictions)
            self._whole.add(rows)
        # A record whose rows wait for its end is not known yet; nor is the last one.
        if (going_on := self._whole.going_on) is not None:
            self._records.end(going_on)
        elif len(record):
            self._records.end(record[-1])

    def calls(self) -> Iterator[ContigCalls]:
        """Call every record by the rule, from all that was added."""
        self._whole.end()
        for known in self._records.pieces():
            yield self._called(known, self._sample)

    @cached_property
    def _sample(self) -> Sample:
        evidence = (self._evidence(known) for known in self._records.pieces())
        return Sample(evidence, self._rule.fdr, self._folder)

    def _evidence(self, known: Known) -> Floats:
        by_frames = evidence_of(known["frames"], self._rule.calibration)
        return np.where(np.isnan(known["evidence"]), by_frames, known["evidence"])

    def _called(self, known: Known, sample: Sample) -> ContigCalls:
        by_model, evidence = ~np.isnan(known["evidence"]), self._evidence(known)
        chance, q_value = probability(evidence), sample.q_values(evidence)
        plain = np.isnan(evidence) if self._reads_genes else np.ones(len(evidence), bool)
        score = np.where(plain, mean_score(known["frames"]), chance)
        judged = np.where(np.isnan(evidence), score, chance)
        is_virus, is_unsure = self._judged(known, by_model, judged, q_value)
        call = np.where(is_unsure, UNSURE, np.where(is_virus, VIRUS, OTHERS))
        return ContigCalls(
            rule=self._rule,
            chunks_scored=known["chunks_scored"],
            chunks_virus=known["frames"]["chunks_virus"],
            virus_fraction=virus_fraction(known["frames"]),
            score=score,
            probability=chance,
            q_value=q_value,
            call=np.where(known["chunks_scored"] > 0, call, UNSCORED),
            rank=np.stack([judged, evidence], axis=1),
            prevalence=sample.prevalence,
            basis=_basis(known) if self._reads_genes else None,
        )

    def _judged(
        self, known: Known, by_model: Flags, score: Floats, q_value: Floats
    ) -> tuple[Flags, Flags]:
        """Which records are viral, and of which that cannot be said."""
        is_unsure = known["reliability"] < self._rule.reliable
        if self._rule.fdr is not None:
            return q_value <= self._rule.fdr, is_unsure | np.isnan(q_value)
        least = np.where(by_model, self._rule.threshold(known["length_nt"]), 0.5)
        return score >= least, is_unsure

    def _end_records(self, rows: pa.Table) -> None:
        """Take in the rows of records that are whole."""
        is_gene = pc.equal(rows["reading"], GENES)
        genes = rows.filter(is_gene)
        if len(genes):
            self._take_in(genes)
            self._pass_on(genes)
        frames = rows.filter(pc.invert(is_gene))
        if len(frames):
            _, known, at = self._known(frames)
            frames = frames.filter(known["genes"][at] == 0)
        if len(frames):
            self._take_in_frames(frames)

    def _known(self, rows: pa.Table) -> tuple[int, Known, IntArray]:
        """The first record of ``rows``, what is known from it on, and the place there of each."""
        record = rows["record_index"].to_numpy()
        first = int(record[0])
        return first, self._records.within(first, int(record[-1])), record - first

    def _take_in(self, genes: pa.Table) -> None:
        _, known, at = self._known(genes)
        place, record = np.unique(at, return_inverse=True)
        viral = pc.equal(genes["label"], VIRUS).to_numpy()
        known["genes"][place] = np.bincount(record)
        known["viral_genes"][place] = np.bincount(record, viral)
        start, end = genes["start"].to_numpy(), genes["end"].to_numpy()
        known["coding_nt"][place] = covered(start, end, record)
        self._judge(genes, GENES)

    def _judge(self, rows: pa.Table, reading: str) -> None:
        """Weigh the rows of whole records by the contig model."""
        first, known, _ = self._known(rows)
        columns = GeneColumns.of(rows, self._model.viral_models)
        sums = GeneSums.of(columns, rows["record_index"].to_numpy())
        place = sums.record_index - first
        length_nt = known["length_nt"][place].astype(np.float64)
        verdict = self._model.judge(sums, length_nt, reading)
        known["evidence"][place] = verdict.evidence
        known["reliability"][place] = verdict.reliability

    def _take_in_frames(self, frames: pa.Table) -> None:
        """Take in frames as chunks: a chunk's scores are the largest of its frames'."""
        _, known, at = self._known(frames)
        if FRAMES in self._model.readers:
            judged = frames.filter(known["length_nt"][at] >= self._least_nt)
            if len(judged):
                self._judge(judged, FRAMES)
        start, end = (frames[name].to_numpy() for name in ("start", "end"))
        chunk = np.flatnonzero(begins(at, start))
        virus, others = (
            np.maximum.reduceat(frames[name].to_numpy(), chunk)
            for name in ("score_virus", "score_others")
        )
        length_nt, calibration = (end - start)[chunk], self._rule.calibration
        add_scores(known["frames"], at[chunk], virus, others, length_nt, calibration)


def _unknown(length_nt: IntArray) -> Known:
    """Records of these lengths before anything is known of them."""
    known = np.zeros(len(length_nt), _RECORD)
    known["length_nt"] = length_nt
    known["evidence"] = known["reliability"] = np.nan
    return known


def _basis(known: Known) -> Basis:
    density = known["coding_nt"] / np.maximum(known["length_nt"], 1)
    return Basis(known["genes"], known["viral_genes"], density, known["reliability"])


def rows_of_frames(chunks: pa.Table, predictions: pa.Table) -> pa.Table:
    """Predictions of a model set that reads frames, as one that reads genes has those of frames.

    Parameters
    ----------
    chunks
        Rows of `schemas.CHUNKS`, all of the partition.
    predictions
        Rows of `schemas.PREDICTIONS`.
    """
    rows = len(predictions)
    of_chunk = chunks.select(["record_index", "start", "end"]).take(predictions["chunk_row"])
    is_forward = pc.equal(pc.utf8_slice_codeunits(predictions["frame_id"], -2, -1), "F")
    logit = viral_logit(*(predictions[name].to_numpy() for name in ("score_virus", "score_others")))
    given = {name: predictions[name] for name in predictions.column_names}
    given |= {name: of_chunk[name] for name in of_chunk.column_names}
    given |= {
        "reading": pa.array([FRAMES] * rows, pa.string()),
        "strand": pc.if_else(is_forward, "+", "-"),
        "start_type": pa.array(["edge"] * rows, pa.string()),
        "evidence": to_column(logit[:, None], "float32"),
    }
    return schemas.filled(schemas.gene_predictions(1), given, rows)


def covered(start: IntArray, end: IntArray, record: IntArray) -> IntArray:
    """Bases of each record that lie in a gene, those of several once.

    Genes are in order of record and start; ``record`` counts from 0 and leaves none out.
    """
    if not len(start):
        return np.zeros(0, np.int64)
    # Records laid end to end, so that a gene never reaches into the next one.
    shift = record * (int(end.max()) + 1)
    reached = np.maximum.accumulate(end + shift)
    before = np.concatenate([[0], reached[:-1]])
    new = np.maximum(reached - np.maximum(start + shift, before), 0)
    return np.bincount(record, new).astype(np.int64)
