"""All result files of a run, in one pass over its prediction tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.modelsets.region_model import RegionModel
from virnuc_dask.outputs.contigs import contig_table, contigs_schema, side_by_side
from virnuc_dask.outputs.fasta import COLUMNS, write_records, write_regions
from virnuc_dask.outputs.fields import fields, header, lines
from virnuc_dask.outputs.published import (
    BY_ID,
    BY_ID_WITH_SCORES,
    FRAMES_HEADER,
    by_id,
    chunk_lines,
    frame_lines,
)
from virnuc_dask.outputs.regions import GFF3_HEADER, bed_lines, gff3_lines
from virnuc_dask.outputs.totals import WRITTEN, Called, Totals
from virnuc_dask.stages.calls import (
    FAILED,
    VIRUS,
    VIRUS_REGION,
    CallRule,
    ContigCalls,
    ContigScores,
    RecordScores,
    call_chunks,
    call_pieces,
)
from virnuc_dask.stages.gene_calls import GeneScores
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.stages.region_calls import Regions, beside, is_sure
from virnuc_dask.stages.regions import chunk_regions, with_regions
from virnuc_dask.stages.whole_records import WholeRecords
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

_UNSEQUENCED = [name for name in schemas.PARTITION.names if name != "sequence"]


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
    regions = Regions(plan.folder.path)
    with _scores(plan, rule or CallRule(), regions) as scores:
        _write_chunks(plan, failed, scores, totals, BY_ID_WITH_SCORES if legacy else BY_ID)
        found = _write_contigs(plan, scores.calls(), regions, totals)
    _write_sequences(plan, regions, found)
    _write_failed(plan, failures)
    return totals


@contextmanager
def _scores(plan: Plan, rule: CallRule, regions: Regions) -> Iterator[RecordScores]:
    """What sums up records, and finds their ``regions``; of genes it writes ``genes.parquet``."""
    folder, model = plan.folder.path, rule.contig_model
    if model is None:
        scores = ContigScores(plan.counts.records, rule, folder)
        yield _WithRegions(scores, rule, regions)
        return
    if not plan.decisions.reads_genes:
        by_model = GeneScores(_lengths(plan), rule, model, reads_genes=False, folder=folder)
        yield _WithRegions(by_model, rule, regions)
        return
    path = plan.folder.output("genes.parquet")
    with table_writer(path, schemas.GENES, lambda: plan.records_fingerprint) as writer:
        pass_on = partial(_write_genes, model.regions, writer, regions)
        yield GeneScores(_lengths(plan), rule, model, pass_on, folder=folder)


class _WithRegions:
    """Scores of records, by frames, whose chunks make regions on the way."""

    def __init__(self, scores: RecordScores, rule: CallRule, regions: Regions) -> None:
        self._scores = scores
        self._whole = WholeRecords(lambda of: regions.add(chunk_regions(of, rule.calibration)))

    def add(self, chunks: pa.Table, predictions: pa.Table | None) -> None:
        self._scores.add(chunks, predictions)
        self._whole.add(chunks)

    def calls(self) -> Iterator[ContigCalls]:
        self._whole.end()
        return self._scores.calls()


def _lengths(plan: Plan) -> Iterator[NDArray[np.int64]]:
    records = read_pieces(plan.folder.records, plan.records_fingerprint)
    return (piece["length_nt"].to_numpy() for piece in records)


def _write_genes(
    model: RegionModel | None, writer: TableWriter, regions: Regions, genes: pa.Table
) -> None:
    """Write the genes of whole records, and keep the regions that they make."""
    genes, found = with_regions(genes, model)
    writer.write(genes)
    regions.add(found)


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


def _write_contigs(
    plan: Plan, calls: Iterator[ContigCalls], regions: Regions, totals: Totals
) -> NDArray[np.uint8]:
    """Write the tables of records and of regions; returns each record's place in `WRITTEN`."""
    first = next(calls)  # there is one even without records
    records = read_pieces(plan.folder.records, plan.records_fingerprint)
    called = Called(plan.counts.records, first)
    with _contig_writer(plan, first) as write_contigs, _region_writer(plan) as write_regions:
        everything = side_by_side(records, itertools.chain([first], calls))
        for table, here, found in beside(everything, regions):
            write_contigs(contig_table(table, here))
            write_regions(found)
            called.add(table, here)
    called.count(totals)
    return called.written


@contextmanager
def _contig_writer(plan: Plan, calls: ContigCalls) -> Iterator[Callable[[pa.Table], None]]:
    """Writes rows of both tables of records."""
    schema, folder = contigs_schema(calls), plan.folder
    with (
        written_whole(folder.output("contigs.tsv")) as stream,
        table_writer(
            folder.output("contigs.parquet"), schema, lambda: plan.records_fingerprint
        ) as writer,
    ):

        def write(table: pa.Table) -> None:
            stream.write(lines(table).encode())
            writer.write(table)

        stream.write(header(schema).encode())
        yield write


@contextmanager
def _region_writer(plan: Plan) -> Iterator[Callable[[pa.Table], None]]:
    """Writes regions with their q-values into all their files but that of DNA."""
    schema = schemas.regions("genes" if plan.decisions.reads_genes else "chunks")
    with ExitStack() as stack:
        tsv, bed, gff3 = (
            stack.enter_context(written_whole(plan.folder.output(f"virus_regions.{kind}")))
            for kind in ("tsv", "bed", "gff3")
        )

        def write(regions: pa.Table) -> None:
            tsv.write(lines(regions.select(schemas.regions().names)).encode())
            bed.write(bed_lines(regions).encode())
            gff3.write(gff3_lines(regions).encode())

        tsv.write(header(schema).encode())
        gff3.write(GFF3_HEADER.encode())
        yield write


def _write_sequences(plan: Plan, regions: Regions, written: NDArray[np.uint8]) -> None:
    """Write ``virus.fasta``, and the regions that other records are called by."""
    with written_whole(plan.folder.output("virus.fasta")) as stream:
        is_virus = written == WRITTEN.index(VIRUS)
        write_records(stream, _sequences(plan, is_virus), is_virus)
    with written_whole(plan.folder.output("virus_regions.fasta")) as stream:
        holds_one = written == WRITTEN.index(VIRUS_REGION)
        sure = (
            piece.filter(holds_one[piece["record_index"]] & is_sure(piece))
            for piece in regions.pieces()
        )
        write_regions(stream, _sequences(plan, holds_one), holds_one, sure)


def _sequences(plan: Plan, wanted: NDArray[np.bool_]) -> Iterator[pa.Table]:
    """The partitions that have a record which is wanted."""
    for part in plan.partitions:
        path = plan.folder.partition(part.index)
        record = read_table(path, part.content, ["record_index"])["record_index"].to_numpy()
        if wanted[record].any():
            yield read_table(path, part.content, COLUMNS)


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
