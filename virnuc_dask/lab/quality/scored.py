"""A run's tables with labels: the scored frames, chunks and contigs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.lab.labelled.files import LabelledFiles
from virnuc_dask.lab.quality.figures import Flags, Floats
from virnuc_dask.modelsets.calibration import Calibration, probability
from virnuc_dask.stages.calls import UNSURE, VIRUS, VIRUS_REGION
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import read_table
from virnuc_dask.tables.plan import Plan, read_plan

Indices = NDArray[np.int64]

_CHUNK_COLUMNS = ("record_index", "start", "end", "score_others", "score_virus", "call")
_FRAME_COLUMNS = ("chunk_row", "label", "score_virus")
_CONTIG_COLUMNS = {
    "record_id": pa.string(),
    "length_nt": pa.int64(),
    "score": pa.float64(),
    "probability": pa.float64(),
    "call": pa.string(),
}


@dataclass(frozen=True, slots=True)
class Level:
    """The frames, the chunks or the contigs of a run, one row each."""

    score: Floats  # ranks them; NaN where there is none
    called: Flags  # virus, by the run itself
    is_virus: Flags
    record: Indices  # its index
    length_nt: Indices  # of the chunk of a frame, of a chunk, of a record
    probability: Floats | None = None  # NaN where there is none; None without a calibration
    unsure: Flags | None = None  # of contigs, where the run does not say
    region: Flags | None = None  # of contigs, where a part is called virus, not the whole

    def where(self, rows: Flags | Indices) -> Level:
        """Some of the rows."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: c[rows] for n, c in columns.items() if c is not None})

    @property
    def is_scored(self) -> Flags:
        """Whether there is a score."""
        return ~np.isnan(self.score)

    @property
    def scored(self) -> Level:
        """The rows with a score."""
        return self.where(self.is_scored)

    def with_probability(self) -> tuple[Floats, Flags]:
        """Probabilities and labels of the rows that have one."""
        if self.probability is None:
            return np.empty(0), np.empty(0, np.bool_)
        has_one = ~np.isnan(self.probability)
        return self.probability[has_one], self.is_virus[has_one]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """All levels of one run over labelled files."""

    labelled: LabelledFiles
    chunk_length: int
    record_ids: pa.Array
    frames: Level | None  # None of a set that reads genes: its rows are not those of other sets
    chunks: Level | None
    contigs: Level

    @property
    def levels(self) -> dict[str, Level]:
        """The levels that there are, by name."""
        levels = {"frames": self.frames, "chunks": self.chunks, "contigs": self.contigs}
        return {name: level for name, level in levels.items() if level is not None}


def read_scored(
    folder: Path, labelled: LabelledFiles, calibration: Calibration | None = None
) -> ScoredRun:
    """Read the tables of a finished run over ``labelled.files``.

    Records are told apart by their place in the input, since ids may repeat. The ``calibration`` of
    the run's model set and chunk length gives chunks their probability, which no table holds.

    Raises
    ------
    BadTableError
        If a table is missing or damaged.
    LostRowsError
        If the run has another number of records than the files.
    """
    plan, is_virus = read_plan(RunFolder(folder)), labelled.is_virus
    if plan is None:
        raise BadTableError(f"{folder}: no finished run here.")
    if plan.counts.records != len(is_virus):
        raise LostRowsError(
            f"{folder}: its run has {plan.counts.records} records, the files {len(is_virus)}; "
            "start anew with --force."
        )
    contigs, record_ids = _read_contigs(plan, is_virus)
    frames = chunks = None
    if not plan.decisions.reads_genes:
        path = plan.folder.output("chunks.parquet")
        table = read_table(path, plan.records_fingerprint, _CHUNK_COLUMNS)
        chunks = chunk_level(table, is_virus, calibration)
        frames = frame_level(_predictions(plan), chunks)
    length = plan.decisions.chunk_length
    return ScoredRun(labelled, length, record_ids, frames, chunks, contigs)


def _predictions(plan: Plan) -> Iterator[tuple[pa.Table, int]]:
    """The frames of each partition, and its number of chunks."""
    for task in plan.tasks():
        path = plan.folder.predictions(task.index)
        yield read_table(path, task.predictions, _FRAME_COLUMNS), task.chunks


def chunk_level(table: pa.Table, is_virus: Flags, calibration: Calibration | None = None) -> Level:
    """Rows of `schemas.CHUNKS`; ``is_virus`` is the label of every record."""
    virus, others = (
        table[name].to_numpy().astype(np.float64) for name in ("score_virus", "score_others")
    )
    record = table["record_index"].to_numpy()
    likely = None
    if calibration is not None:
        likely = probability(calibration.chunk_evidence(virus, others))
    return Level(
        score=(1 + virus - others) / 2,  # as a contig's score counts it
        called=_is_called(table["call"], VIRUS),
        is_virus=is_virus[record],
        record=record,
        length_nt=table["end"].to_numpy() - table["start"].to_numpy(),
        probability=likely,
    )


def frame_level(partitions: Iterable[tuple[pa.Table, int]], chunks: Level) -> Level:
    """Rows of `schemas.PREDICTIONS` by partition, with its number of chunks, in their order."""
    score, called, chunk = [np.empty(0)], [np.empty(0, np.bool_)], [np.empty(0, np.int64)]
    first = 0
    for table, count in partitions:
        score.append(table["score_virus"].to_numpy())
        called.append(_is_called(table["label"], VIRUS))
        chunk.append(table["chunk_row"].to_numpy().astype(np.int64) + first)
        first += count
    found, calls = np.concatenate(score), np.concatenate(called)
    return replace(chunks.where(np.concatenate(chunk)), score=found, called=calls, probability=None)


def _read_contigs(plan: Plan, is_virus: Flags) -> tuple[Level, pa.Array]:
    path = plan.folder.output("contigs.tsv")
    # Ids may be such text as "nan", which would read as missing.
    options = pa.csv.ConvertOptions(
        column_types=_CONTIG_COLUMNS,
        include_columns=list(_CONTIG_COLUMNS),
        null_values=[""],
        strings_can_be_null=False,
    )
    try:
        table = pa.csv.read_csv(
            path, parse_options=pa.csv.ParseOptions(delimiter="\t"), convert_options=options
        )
    except (OSError, pa.ArrowException) as error:
        raise BadTableError(
            f"{path}: cannot be read ({error}); --resume makes it again."
        ) from error
    if len(table) != len(is_virus):
        raise BadTableError(f"{path}: {len(table)} records, not {len(is_virus)}; use --resume.")
    score, likely = table["score"].to_numpy(), table["probability"].to_numpy()
    contigs = Level(
        score=np.where(np.isnan(likely), score, likely),  # as the run orders them
        called=_is_called(table["call"], VIRUS),
        is_virus=is_virus,
        record=np.arange(len(is_virus)),
        length_nt=table["length_nt"].to_numpy(),
        probability=None if np.isnan(likely).all() else likely,
        unsure=_is_called(table["call"], UNSURE),
        region=_is_called(table["call"], VIRUS_REGION),
    )
    return contigs, table["record_id"].combine_chunks()


def _is_called(call: pa.ChunkedArray, kind: str) -> Flags:
    """Where a call is of that kind; a missing one is not."""
    flags: Flags = pc.fill_null(pc.equal(call, kind), False).to_numpy()
    return flags
