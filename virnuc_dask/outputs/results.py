"""All result files of a run, in one pass over its prediction tables."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.modelsets.region_model import RegionModel
from virnuc_dask.outputs.contigs import contig_table, contigs_schema, read_records, side_by_side
from virnuc_dask.outputs.fasta import COLUMNS, write_records, write_regions
from virnuc_dask.outputs.fields import header, lines, text_table
from virnuc_dask.outputs.genomad import write_virus_summary
from virnuc_dask.outputs.pairs import pair_scores, write_pairs
from virnuc_dask.outputs.published import (
    BY_ID,
    BY_ID_WITH_SCORES,
    FRAMES_HEADER,
    by_id,
    chunk_lines,
    frame_lines,
)
from virnuc_dask.outputs.regions import GFF3_HEADER, bed_lines, gff3_lines
from virnuc_dask.outputs.totals import WRITTEN, CallCounts, Totals
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
from virnuc_dask.stages.region_calls import Regions, beside
from virnuc_dask.stages.regions import chunk_regions, with_regions
from virnuc_dask.stages.whole_records import WholeRecords
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import SortedRows
from virnuc_dask.tables.parquet import (
    TableWriter,
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
    formats: Collection[str] = (),
) -> Totals:
    """Write every result file and count what is in them.

    ``rule`` says what makes a record a virus; default: its score. ``formats`` are of
    `config.FORMATS`.

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
    rule = rule or CallRule()
    model = rule.contig_model if plan.decisions.reads_genes else None
    regions = Regions(plan.folder.path, model.regions if model else None)
    pairs = pair_scores(plan, rule)
    with _scores(plan, rule, regions) as scores:
        by = BY_ID_WITH_SCORES if "legacy" in formats else BY_ID
        _write_chunks(plan, failed, [scores, *pairs], totals, by)
        regions.compare(side_by_side(read_records(plan, ["length_nt"]), scores.calls()))
        called = _write_contigs(plan, scores.calls(), regions, totals)
    for each in pairs:
        totals.pairs = write_pairs(plan, each.calls(), called)
    _write_sequences(plan, regions, called.written)
    if "genomad" in formats:
        is_virus = called.written == WRITTEN.index(VIRUS)
        write_virus_summary(plan.folder, is_virus, _sure(plan, regions, called.written))
    else:
        plan.folder.output("virus_summary.tsv").unlink(missing_ok=True)  # of an earlier run
    _write_failed(plan, failures)
    return totals


@contextmanager
def _scores(plan: Plan, rule: CallRule, regions: Regions) -> Iterator[RecordScores]:
    """What sums up records, and finds their ``regions``; of genes it writes ``genes.parquet``."""
    folder, model = plan.folder.path, rule.contig_model
    if model is None or not plan.decisions.reads_genes:
        scores: RecordScores = ContigScores(plan.counts.records, rule, folder)
        if model is not None:
            scores = GeneScores(_lengths(plan), rule, model, reads_genes=False, folder=folder)
        yield _WithRegions(scores, rule, regions)
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
    return (piece["length_nt"].to_numpy() for piece in read_records(plan, ["length_nt"]))


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
    scores: Sequence[RecordScores],
    totals: Totals,
    sorted_by: pa.Schema,
) -> None:
    """Write ``chunks.parquet``, ``prediction_results.txt``, and the chunks sorted by id."""
    folder, mark = plan.folder, plan.records_fingerprint
    chunks, samples = SortedRows(sorted_by, folder.path), _Samples(plan)
    path, schema = folder.output("chunks.parquet"), schemas.CHUNKS_OF_SAMPLES
    with (
        table_writer(path, schema, lambda: mark) as writer,
        text_table(folder.output("prediction_results.txt"), FRAMES_HEADER) as frames,
    ):
        for part in plan.partitions:
            called, predictions = _write_partition(plan, part, frames, failed.get(part.index, ()))
            writer.write(samples.beside(called))
            for each in scores:
                each.add(called, predictions)
            _count(totals, called)
            chunks.add(by_id(called, sorted_by))
    if totals.chunks != plan.counts.chunks:
        raise LostRowsError(f"{plan.counts.chunks} chunks were planned, {totals.chunks} came out.")
    path = folder.output("prediction_results_highestscore.csv")
    with text_table(path, header(sorted_by)) as stream:
        stream.writelines(map(chunk_lines, chunks.merged()))


def _write_partition(
    plan: Plan,
    part: PlannedPartition,
    lines: TextIO,
    failed: Sequence[Rows],
) -> tuple[pa.Table, pa.Table | None]:
    """Write one partition's frame lines; returns its calls and its predictions."""
    folder, task = plan.folder, plan.task(part)
    chunks = read_table(folder.partition(part.index), part.content, _UNSEQUENCED)
    predictions = None
    if sum(end - first for first, end in failed) != part.chunks:
        lacking = task.lacking(failed)
        predictions = read_table(lacking.predictions_path, lacking.predictions)
        lines.write(frame_lines(predictions))
    call = call_pieces if plan.decisions.reads_genes else call_chunks
    called = call(chunks, predictions, failed)
    _require_whole(part, called, predictions, failed)
    return called, predictions


class _Samples:
    """The names of samples by record: neighbours share them."""

    def __init__(self, plan: Plan) -> None:
        starts, names, done = [0], list[str](), 0
        for piece in read_records(plan, ["sample"]):
            runs = pc.run_end_encode(piece["sample"].combine_chunks(), run_end_type=pa.int64())
            starts += (np.array(runs.run_ends) + done).tolist()
            names += runs.values.to_pylist()
            done += len(piece)
        self._starts, self._names = np.array(starts), pa.array(names, pa.string())

    def beside(self, chunks: pa.Table) -> pa.Table:
        """Rows of `schemas.CHUNKS` → of `schemas.CHUNKS_OF_SAMPLES`."""
        index = chunks["record_index"].to_numpy()
        place = np.searchsorted(self._starts, index, side="right") - 1
        return chunks.append_column("sample", self._names.take(pa.array(place)))


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
) -> CallCounts:
    """Write the tables of records and of regions; returns what records are called."""
    first = next(calls)  # there is one even without records
    called, output = CallCounts(plan.counts.records, first), plan.folder.output
    schema, mark = contigs_schema(first), plan.records_fingerprint
    of_regions = schemas.regions("genes" if plan.decisions.reads_genes else "chunks")
    with (
        text_table(output("contigs.tsv"), header(schema)) as contigs,
        table_writer(output("contigs.parquet"), schema, lambda: mark) as typed,
        text_table(output("virus_regions.tsv"), header(of_regions)) as tsv,
        text_table(output("virus_regions.bed")) as bed,
        text_table(output("virus_regions.gff3"), GFF3_HEADER) as gff3,
    ):
        everything = side_by_side(read_records(plan), itertools.chain([first], calls))
        for records, here, found in beside(everything, regions):
            table = contig_table(records, here)
            contigs.write(lines(table))
            typed.write(table)
            tsv.write(lines(found.select(schemas.regions().names)))
            bed.write(bed_lines(found))
            gff3.write(gff3_lines(found))
            called.add(records, here)
    called.count(totals)
    return called


def _write_sequences(plan: Plan, regions: Regions, written: NDArray[np.uint8]) -> None:
    """Write ``virus.fasta``, and the regions that other records are called by."""
    with written_whole(plan.folder.output("virus.fasta")) as stream:
        is_virus = written == WRITTEN.index(VIRUS)
        records = read_records(plan, ["record_index", "description"])
        write_records(stream, _sequences(plan, is_virus), is_virus, records)
    with written_whole(plan.folder.output("virus_regions.fasta")) as stream:
        holds_one = written == WRITTEN.index(VIRUS_REGION)
        sure = _sure(plan, regions, written)
        write_regions(stream, _sequences(plan, holds_one), holds_one, sure)


def _sure(plan: Plan, regions: Regions, written: NDArray[np.uint8]) -> Iterator[pa.Table]:
    """The sure regions of records called `VIRUS_REGION`; of frames without a count of genes."""
    holds_one = written == WRITTEN.index(VIRUS_REGION)
    for piece in regions.pieces():
        sure = piece.filter(holds_one[piece["record_index"]] & piece["is_sure"].to_numpy())
        yield sure if plan.decisions.reads_genes else sure.drop_columns("genes")


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
    ids = ("chunk_id", "record_id")
    with text_table(path, "\t".join([*ids, "partition", "reason"]) + "\n") as stream:
        for failure in sorted(failures, key=lambda f: (f.partition, f.rows)):
            part = plan.partitions[failure.partition]
            chunks = read_table(plan.folder.partition(part.index), part.content, ids)
            failed = chunks.slice(failure.rows[0], failure.chunks)
            for column in (str(part.index), " ".join(failure.reason.split())):
                failed = failed.append_column(column, pa.repeat(column, len(failed)))
            stream.write(lines(failed))
