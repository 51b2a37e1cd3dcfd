"""What a model set's classifier makes of the records that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.lab.quality.figures import Flags, Floats
from virnuc_dask.lab.quality.scored import Level, chunk_level, frame_level
from virnuc_dask.lab.training.frame_features import LabelledRun
from virnuc_dask.modelsets.calibration import margins
from virnuc_dask.modelsets.modelset import ModelSet
from virnuc_dask.stages.calls import (
    VIRUS,
    CallRule,
    ContigCalls,
    ContigScores,
    RecordScores,
    call_chunks,
)
from virnuc_dask.stages.gene_calls import GeneScores
from virnuc_dask.stages.predict import predict_frames

# Longer records count as several contigs when a calibration is made.
MOST_CHUNKS = 100


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One part of a run, scored by the run's own functions; tables are by partition."""

    run: LabelledRun
    part: int
    chunks_of: Sequence[pa.Table]  # `schemas.CHUNKS`
    frames_of: Sequence[pa.Table]  # `schemas.PREDICTIONS`
    supported: Flags | None  # frames in a CDS, where the run knows

    @property
    def chunks(self) -> Level:
        """The part's chunks, in the order of the records."""
        return chunk_level(pa.concat_tables(self.chunks_of), self.run.is_virus)

    @property
    def frames(self) -> Level:
        """The part's frames, in the order of the chunks."""
        counts = map(len, self.chunks_of)
        return frame_level(zip(self.frames_of, counts, strict=True), self.chunks)

    def contigs(self, rule: CallRule) -> Level:
        """The part's records, as a run calls them."""
        run, model = self.run, rule.contig_model
        scores: RecordScores = ContigScores(len(run.part), rule)
        if model is not None:
            scores = GeneScores([run.length_nt], rule, model, reads_genes=False)
        for chunks, frames in zip(self.chunks_of, self.frames_of, strict=True):
            scores.add(chunks, frames)
        calls = ContigCalls.joined(scores.calls())
        records = np.flatnonzero(run.part == self.part)
        chance = calls.probability[records]
        return Level(
            score=np.where(np.isnan(chance), calls.score[records], chance),
            called=calls.call[records] == VIRUS,
            is_virus=run.is_virus[records],
            record=records,
            length_nt=run.length_nt[records],
            probability=chance if rule.has_probability else None,
        )

    def pieces(self) -> tuple[list[Floats], list[bool]]:
        """Contigs to calibrate with: margins of up to `MOST_CHUNKS` scored chunks, and labels."""
        table = pa.concat_tables(self.chunks_of)
        table = table.filter(table["call"].is_valid())
        margin = margins(*(table[name].to_numpy() for name in ("score_virus", "score_others")))
        record = table["record_index"].to_numpy()
        cuts = piece_starts(record)
        return np.split(margin, cuts)[1:], self.run.is_virus[record[cuts]].tolist()


def piece_starts(record: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a record's chunks begin, and each further `MOST_CHUNKS` of them; ``record`` ascends."""
    place = np.arange(len(record)) - np.searchsorted(record, record)
    return np.flatnonzero(place % MOST_CHUNKS == 0)


def score_part(run: LabelledRun, part: int, models: ModelSet) -> HeldOut:
    """Score the records of one part with a model set's classifier."""
    chunks_of, frames_of, supported = [], [], []
    for partition in run.partitions():
        here = partition.of_records(run.part == part)
        frames_of.append(predict_frames(here.frames, models))
        chunks_of.append(call_chunks(here.chunks, frames_of[-1]))
        if run.coding is not None:
            supported.append(here.supported(run.coding))
    in_cds = np.concatenate(supported) if supported else None
    return HeldOut(run, part, chunks_of, frames_of, in_cds)
