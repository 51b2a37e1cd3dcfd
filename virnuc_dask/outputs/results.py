"""All result files of a run, in one pass over its prediction tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from virnuc_dask.errors import LostRowsError
from virnuc_dask.modelsets.region_model import RegionModel
from virnuc_dask.outputs.contigs import contig_lines, contigs_header, side_by_side, write_fasta
from virnuc_dask.outputs.fields import fields
from virnuc_dask.outputs.published import (
    BY_ID,
    BY_ID_WITH_SCORES,
    FRAMES_HEADER,
    by_id,
    chunk_lines,
    frame_lines,
)
from virnuc_dask.outputs.regions import REGIONS_HEADER, region_lines
from virnuc_dask.stages.calls import (
    FAILED,
    OTHERS,
    UNSCORED,
    UNSURE,
    VIRUS,
    CallRule,
    ContigCalls,
    ContigScores,
    RecordScores,
    call_chunks,
    call_pieces,
)
from virnuc_dask.stages.gene_calls import GeneScores
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.stages.regions import with_regions
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import SortedRows
from virnuc_dask.tables.parquet import (
    TableWriter,
    read_pieces,
    read_table,
    table_writer,
    written_whole,
)
from virnuc_dask.tables.plan import Plan, PlannedPartition, Rows

_SHOWN = 5  # records in the summary
_UNSEQUENCED = [name for name in schemas.PARTITION.names if name != "sequence"]


@dataclass
class Totals:
    """What came out of a run, counted from its tables."""

    chunks: int = 0
    chunks_scored: int = 0
    chunks_virus: int = 0
    frames: int = 0
    contigs: Mapping[str, int] = field(default_factory=dict)  # by call
    called_by: str = ""  # what makes a record a virus
    prevalence: float | None = None  # estimated share of viruses among the scored records
    highest: Sequence[Mapping[str, Any]] = ()  # the most viral records
    genes: int | None = None  # and those called virus; None of a set that reads frames
    genes_virus: int | None = None


def write_results(
    plan: Plan,
    failures: Sequence[Failure],
    rule: CallRule | None = None,
    *,
    legacy: bool = False,
) -> Totals:
    """Write every result file and count what is in them.

    ``rule`` says what makes a record a virus; default: its score. ``legacy`` adds scores to
    ``prediction_results_highestscore.csv``.

    Raises
    ------
    LostRowsError
        If a planned chunk or record is missing from the tables.
    BadTableError
        If a table is missing or damaged.
    """
    totals = Totals()
    failed: dict[int, list[Rows]] = {}
    for failure in failures:
        failed.setdefault(failure.partition, []).append(failure.rows)
    with _scores(plan, rule or CallRule()) as scores:
        _write_chunks(plan, failed, scores, totals, BY_ID_WITH_SCORES if legacy else BY_ID)
        _write_contigs(plan, scores.calls(), totals)
    _write_failed(plan, failures)
    return totals


@contextmanager
def _scores(plan: Plan, rule: CallRule) -> Iterator[RecordScores]:
    """What sums up records; of a set that reads genes it writes ``genes.parquet`` on the way."""
    folder, model = plan.folder.path, rule.contig_model
    if model is None:
        yield ContigScores(plan.counts.records, rule, folder)
        return
    records = read_pieces(plan.folder.records, plan.records_fingerprint)
    lengths = (piece["length_nt"].to_numpy() for piece in records)
    if not plan.decisions.reads_genes:
        yield GeneScores(lengths, rule, model, reads_genes=False, folder=folder)
        return
    path, regions = (plan.folder.output(n) for n in ("genes.parquet", "virus_regions.tsv"))
    with (
        table_writer(path, schemas.GENES, lambda: plan.records_fingerprint) as writer,
        written_whole(regions) as lines,
    ):
        lines.write(REGIONS_HEADER.encode())
        pass_on = partial(_write_genes, model.regions, writer, lines)
        yield GeneScores(lengths, rule, model, pass_on, folder=folder)


def _write_genes(
    model: RegionModel | None, writer: TableWriter, lines: IO[bytes], genes: pa.Table
) -> None:
    """Write the genes of whole records, and the regions that they make."""
    genes, regions = with_regions(genes, model)
    writer.write(genes)
    lines.write(region_lines(regions).encode())


def _write_chunks(
    plan: Plan,
    failed: Mapping[int, Sequence[Rows]],
    scores: RecordScores,
    totals: Totals,
    schema: pa.Schema,
) -> None:
    """Write ``chunks.parquet``, ``prediction_results.txt``, and the chunks sorted by id."""
    folder = plan.folder
    chunks = SortedRows(schema, folder.path)
    with (
        table_writer(
            folder.output("chunks.parquet"), schemas.CHUNKS, lambda: plan.records_fingerprint
        ) as writer,
        written_whole(folder.output("prediction_results.txt")) as lines,
    ):
        lines.write(FRAMES_HEADER.encode())
        for part in plan.partitions:
            called, predictions = _write_partition(
                plan, part, writer, lines, failed.get(part.index, ())
            )
            scores.add(called, predictions)
            _count(totals, called)
            chunks.add(by_id(called, schema))
    if totals.chunks != plan.counts.chunks:
        raise LostRowsError(f"{plan.counts.chunks} chunks were planned, {totals.chunks} came out.")
    with written_whole(folder.output("prediction_results_highestscore.csv")) as lines:
        lines.write(("\t".join(schema.names) + "\n").encode())
        lines.writelines(chunk_lines(piece).encode() for piece in chunks.merged())


def _write_partition(
    plan: Plan,
    part: PlannedPartition,
    writer: TableWriter,
    lines: IO[bytes],
    failed: Sequence[Rows],
) -> tuple[pa.Table, pa.Table | None]:
    """Write one partition's calls and frame lines; returns the calls and the predictions."""
    folder, task = plan.folder, plan.task(part)
    chunks = read_table(folder.partition(part.index), part.content, _UNSEQUENCED)
    predictions = None
    if sum(end - first for first, end in failed) != part.chunks:
        lacking = task.lacking(failed)
        predictions = read_table(lacking.predictions_path, lacking.predictions)
        lines.write(frame_lines(predictions).encode())
    call = call_pieces if plan.decisions.reads_genes else call_chunks
    called = call(chunks, predictions, failed)
    _require_whole(part, called, predictions, failed)
    writer.write(called)
    return called, predictions


def _require_whole(
    part: PlannedPartition,
    called: pa.Table,
    predictions: pa.Table | None,
    failed: Sequence[Rows],
) -> None:
    """Check that all chunks of a partition are there, and that each frame belongs to one."""
    lost = pc.sum(pc.equal(called["reason"], FAILED)).as_py() or 0
    if len(called) != part.chunks or lost != sum(end - first for first, end in failed):
        raise LostRowsError(
            f"partition {part.index}: {part.chunks} chunks were planned, {len(called)} came out, "
            f"{lost} failed."
        )
    frames = int(called["frames"].to_numpy().sum())
    rows = 0 if predictions is None else len(predictions)
    if frames != rows:
        raise LostRowsError(f"partition {part.index}: {rows} frames, {frames} belong to a chunk.")


def _count(totals: Totals, called: pa.Table) -> None:
    call = called["call"].to_numpy(zero_copy_only=False)
    totals.chunks += len(called)
    totals.frames += int(called["frames"].to_numpy().sum())
    totals.chunks_scored += len(called) - called["call"].null_count
    totals.chunks_virus += int(np.count_nonzero(call == VIRUS))


def _write_contigs(plan: Plan, calls: Iterator[ContigCalls], totals: Totals) -> None:
    """Write ``contigs.tsv`` and ``virus.fasta``."""
    first = next(calls)  # there is one even without records
    records = read_pieces(plan.folder.records, plan.records_fingerprint)
    called = _Called(plan.counts.records, first)
    with written_whole(plan.folder.output("contigs.tsv")) as stream:
        stream.write(contigs_header(first).encode())
        for table, here in side_by_side(records, itertools.chain([first], calls)):
            stream.write(contig_lines(table, here).encode())
            called.add(table, here)
    called.count(totals)
    with written_whole(plan.folder.output("virus.fasta")) as stream:
        write_fasta(stream, _sequences(plan), called.is_virus)


class _Called:
    """What the calls of all records add up to."""

    def __init__(self, records: int, first: ContigCalls) -> None:
        kinds = (VIRUS, OTHERS, UNSCORED, *([UNSURE] if first.rule.contig_model else []))
        self._counts = dict.fromkeys(kinds, 0)
        self._genes = None if first.basis is None else [0, 0]
        self._highest, self._ids = first.take(slice(0)), list[str]()
        self.is_virus = np.zeros(records, bool)  # by record index

    def add(self, records: pa.Table, calls: ContigCalls) -> None:
        """Take in the calls of some records."""
        for kind in self._counts:
            self._counts[kind] += int(np.count_nonzero(calls.call == kind))
        self.is_virus[records["record_index"].to_numpy()] = calls.call == VIRUS
        if self._genes is not None and calls.basis is not None:
            self._genes[0] += int(calls.basis.genes.sum())
            self._genes[1] += int(calls.basis.viral_genes.sum())
        order = calls.order[:_SHOWN]
        ids = [*self._ids, *records["record_id"].take(order).to_pylist()]
        both = ContigCalls.joined([self._highest, calls.take(order)])
        self._highest = both.take(both.order[:_SHOWN])
        self._ids = [ids[row] for row in both.order[:_SHOWN]]

    def count(self, totals: Totals) -> None:
        """Put it into the totals of a run."""
        calls = self._highest
        totals.contigs, totals.highest = self._counts, _highest(self._ids, calls)
        if self._genes is not None:
            totals.genes, totals.genes_virus = self._genes
        totals.called_by = str(calls.rule)
        totals.prevalence = None if calls.prevalence is None else round(calls.prevalence, 6)


def _highest(record_ids: Sequence[str], calls: ContigCalls) -> list[dict[str, Any]]:
    columns = {"score": calls.score}
    if calls.rule.has_probability:
        columns["probability"] = calls.probability
    return [
        {
            "record_id": record_id,
            **{name: _rounded(values[row]) for name, values in columns.items()},
            "call": str(calls.call[row]),
        }
        for row, record_id in enumerate(record_ids)
    ]


def _rounded(value: float) -> float | None:
    """As `contigs.tsv` has it; JSON knows no number that is none."""
    return None if np.isnan(value) else round(float(value), 6)


def _sequences(plan: Plan) -> Iterator[pa.Table]:
    columns = ["record_index", "record_id", "start", "end", "sequence"]
    for part in plan.partitions:
        yield read_table(plan.folder.partition(part.index), part.content, columns)


def _write_failed(plan: Plan, failures: Sequence[Failure]) -> None:
    """Every chunk that failed with the reason; no file if nothing failed."""
    path = plan.folder.output("failed.tsv")
    if not failures:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as stream:
        stream.write(b"chunk_id\trecord_id\tpartition\treason\n")
        for failure in sorted(failures, key=lambda f: (f.partition, f.rows)):
            part = plan.partitions[failure.partition]
            table = read_table(plan.folder.partition(part.index), part.content, _UNSEQUENCED)
            chunks = table.slice(failure.rows[0], failure.chunks)
            (reason,) = fields([" ".join(failure.reason.split())])
            columns = (fields(chunks[name].to_pylist()) for name in ("chunk_id", "record_id"))
            ids = zip(*columns, strict=True)
            stream.writelines(f"{c}\t{r}\t{part.index}\t{reason}\n".encode() for c, r in ids)
