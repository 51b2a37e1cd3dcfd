"""Predictions of a model set that reads genes → calls of records, by its contig model."""

from __future__ import annotations

from collections.abc import Callable

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
    UNSCORED,
    UNSURE,
    VIRUS,
    Basis,
    CallRule,
    ContigCalls,
    ContigScores,
    IntArray,
    in_sample,
)
from virnuc_dask.stages.predict import viral_logit
from virnuc_dask.tables import schemas
from virnuc_dask.tables.vectors import to_column

Flags = NDArray[np.bool_]


class GeneScores:
    """What the genes of each record say; or its frames, where it has no gene.

    Frames are weighed by the contig model, if it knows how; else as by a set that reads frames.
    The rows of a record that may go on in the next partition are kept until it has ended, so that
    what is said of it does not depend on where partitions end: never more than one record's.

    Parameters
    ----------
    length_nt
        Of every record, by its index.
    pass_on
        Is given the genes of all records, in order, many at a time.
    reads_genes
        False: all rows are frames, scores stay what they are without a contig model, and what calls
        rest on is not told. The contig model judges no record that is shorter than those it knows:
        it may have been taught whole chunks alone.
    """

    def __init__(
        self,
        length_nt: IntArray,
        rule: CallRule,
        model: ContigModel,
        pass_on: Callable[[pa.Table], None] = lambda _: None,
        *,
        reads_genes: bool = True,
    ) -> None:
        self._length_nt, self._rule, self._model = length_nt, rule, model
        self._pass_on = pass_on
        self._held: list[pa.Table] = []
        self._reads_genes = reads_genes
        known_nt = None if reads_genes else model.readers[FRAMES].calibration.length_nt
        self._least_nt = 0 if known_nt is None else known_nt[0]
        records = len(length_nt)
        self._chunks_scored = np.zeros(records, np.int64)
        self._frames = ContigScores(records, CallRule(rule.calibration))
        self._genes = np.zeros(records, np.int64)
        self._viral = np.zeros(records, np.int64)
        self._coding_nt = np.zeros(records, np.int64)
        self._evidence = np.full(records, np.nan)
        self._reliability = np.full(records, np.nan)

    def add(self, chunks: pa.Table, predictions: pa.Table | None) -> None:
        """Take in a partition's calls, and its predictions; None if all of it failed."""
        scored = chunks.filter(chunks["call"].is_valid())["record_index"].to_numpy()
        np.add.at(self._chunks_scored, scored, 1)
        if predictions is None or not len(predictions):
            return
        if not self._reads_genes:
            predictions = rows_of_frames(chunks, predictions)
        record = predictions["record_index"].to_numpy()
        ended = int(np.searchsorted(record, record[-1]))  # rows before those of the last record
        if ended or (self._held and self._held[0]["record_index"][0].as_py() != record[0]):
            self._held.append(predictions.slice(0, ended))
            self._end_record()
        self._held.append(predictions.slice(ended))

    def calls(self) -> ContigCalls:
        """Call every record by the rule, from all that was added."""
        self._end_record()
        by_model, scored = ~np.isnan(self._evidence), self._chunks_scored > 0
        evidence = np.where(by_model, self._evidence, self._frames.evidence())
        chance = probability(evidence)
        plain = np.isnan(evidence) if self._reads_genes else np.ones(len(evidence), bool)
        score = np.where(plain, self._frames.score(), chance)
        prevalence, q_value = in_sample(evidence)
        judged = np.where(np.isnan(evidence), score, chance)
        is_virus, is_unsure = self._judged(by_model, judged, q_value)
        call = np.where(is_unsure, UNSURE, np.where(is_virus, VIRUS, OTHERS))
        order = np.lexsort((-evidence[scored], -judged[scored]))
        return ContigCalls(
            rule=self._rule,
            chunks_scored=self._chunks_scored,
            score=score,
            probability=chance,
            q_value=q_value,
            call=np.where(scored, call, UNSCORED),
            order=np.flatnonzero(scored)[order],
            prevalence=prevalence,
            basis=self._basis() if self._reads_genes else None,
        )

    def _basis(self) -> Basis:
        density = self._coding_nt / np.maximum(self._length_nt, 1)
        return Basis(self._genes, self._viral, density, self._reliability)

    def _judged(self, by_model: Flags, score: Floats, q_value: Floats) -> tuple[Flags, Flags]:
        """Which records are viral, and of which that cannot be said."""
        is_unsure = self._reliability < self._rule.reliable
        if self._rule.fdr is not None:
            return q_value <= self._rule.fdr, is_unsure | np.isnan(q_value)
        least = np.where(by_model, self._rule.threshold(self._length_nt), 0.5)
        return score >= least, is_unsure

    def _end_record(self) -> None:
        """Take in the rows that are kept: records that are whole."""
        if not self._held:
            return
        rows = pa.concat_tables(self._held)
        self._held = []
        is_gene = pc.equal(rows["reading"], GENES)
        genes = rows.filter(is_gene)
        if len(genes):
            self._take_in(genes)
            self._pass_on(genes)
        frames = rows.filter(pc.invert(is_gene))
        frames = frames.filter(self._genes[frames["record_index"].to_numpy()] == 0)
        if len(frames):
            self._take_in_frames(frames)

    def _take_in(self, genes: pa.Table) -> None:
        index, record = np.unique(genes["record_index"].to_numpy(), return_inverse=True)
        viral = pc.equal(genes["label"], VIRUS).to_numpy()
        self._genes[index] = np.bincount(record)
        self._viral[index] = np.bincount(record, viral).astype(np.int64)
        start, end = genes["start"].to_numpy(), genes["end"].to_numpy()
        self._coding_nt[index] = covered(start, end, record)
        self._judge(genes, GENES)

    def _judge(self, rows: pa.Table, reading: str) -> None:
        """Weigh the rows of whole records by the contig model."""
        columns = GeneColumns.of(rows, self._model.viral_models)
        sums = GeneSums.of(columns, rows["record_index"].to_numpy())
        index = sums.record_index
        verdict = self._model.judge(sums, self._length_nt[index].astype(np.float64), reading)
        self._evidence[index], self._reliability[index] = verdict.evidence, verdict.reliability

    def _take_in_frames(self, frames: pa.Table) -> None:
        """Take in frames as chunks: a chunk's scores are the largest of its frames'."""
        if FRAMES in self._model.readers:
            length_nt = self._length_nt[frames["record_index"].to_numpy()]
            judged = frames.filter(length_nt >= self._least_nt)
            if len(judged):
                self._judge(judged, FRAMES)
        record, start = frames["record_index"].to_numpy(), frames["start"].to_numpy()
        is_first = np.diff(record, prepend=-1) + np.abs(np.diff(start, prepend=-1)) != 0
        chunk = np.flatnonzero(is_first)
        virus, others = (
            np.maximum.reduceat(frames[name].to_numpy(), chunk)
            for name in ("score_virus", "score_others")
        )
        self._frames.add_scores(record[chunk], virus, others)


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
