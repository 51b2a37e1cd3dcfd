"""All result files of a run, in one pass over its prediction tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.outputs.contigs import contig_lines, contigs_header, write_fasta
from virnuc_dask.outputs.fields import fields
from virnuc_dask.outputs.published import CHUNKS_HEADER, FRAMES_HEADER, chunk_lines, frame_lines
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


def write_results(plan: Plan, failures: Sequence[Failure], rule: CallRule | None = None) -> Totals:
    """Write every result file and count what is in them.

    ``rule`` says what makes a record a virus; default: its score. Raises `LostRowsError` if a
    planned chunk or record is missing, `BadTableError` if a table is, or is damaged.
    """
    totals, failed = Totals(), defaultdict[int, list[Rows]](list)
    for failure in failures:
        failed[failure.partition].append(failure.rows)
    with _scores(plan, rule or CallRule()) as scores:
        called = _write_chunks(plan, failed, scores, totals)
        calls = scores.calls()
    highest_scores = plan.folder.output("prediction_results_highestscore.csv")
    _write_blocks(highest_scores, CHUNKS_HEADER, chunk_lines(called))
    _write_contigs(plan, calls, totals)
    _write_failed(plan, failures)
    return totals


@contextmanager
def _scores(plan: Plan, rule: CallRule) -> Iterator[RecordScores]:
    """What sums up records; of a set that reads genes it writes ``genes.parquet`` on the way."""
    if rule.contig_model is None:
        yield ContigScores(plan.counts.records, rule)
        return
    if not plan.decisions.reads_genes:
        yield GeneScores(_lengths(plan), rule, rule.contig_model, reads_genes=False)
        return
    path, regions = (plan.folder.output(n) for n in ("genes.parquet", "virus_regions.tsv"))
    with (
        table_writer(path, schemas.GENES, lambda: plan.records_fingerprint) as writer,
        written_whole(regions) as lines,
    ):
        lines.write(REGIONS_HEADER.encode())
        yield GeneScores(
            _lengths(plan), rule, rule.contig_model, partial(_write_genes, rule, writer, lines)
        )


def _write_genes(rule: CallRule, writer: TableWriter, lines: IO[bytes], genes: pa.Table) -> None:
    """Write the genes of whole records, and the regions that they make."""
    model = rule.contig_model
    genes, regions = with_regions(genes, model.regions if model else None)
    writer.write(genes)
    lines.write(region_lines(regions).encode())


def _lengths(plan: Plan) -> NDArray[np.int64]:
    lengths = (piece["length_nt"].to_numpy() for piece in _records(plan))
    return np.concatenate([np.empty(0, np.int64), *lengths])


def _write_chunks(
    plan: Plan, failed: Mapping[int, Sequence[Rows]], scores: RecordScores, totals: Totals
) -> pa.Table:
    """Write ``chunks.parquet`` and ``prediction_results.txt``; returns ids and calls of chunks."""
    folder = plan.folder
    brief = [pa.table({"chunk_id": pa.array([], pa.string()), "call": pa.array([], pa.string())})]
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
            brief.append(called.select(["chunk_id", "call"]).filter(called["call"].is_valid()))
    if totals.chunks != plan.counts.chunks:
        raise LostRowsError(f"{plan.counts.chunks} chunks were planned, {totals.chunks} came out.")
    return pa.concat_tables(brief)


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


def _write_contigs(plan: Plan, calls: ContigCalls, totals: Totals) -> None:
    lines = contig_lines(_records(plan), calls)
    _write_blocks(plan.folder.output("contigs.tsv"), contigs_header(calls), lines)
    call = calls.call
    kinds = (VIRUS, OTHERS, UNSCORED, *([UNSURE] if calls.rule.contig_model else []))
    totals.contigs = {kind: int(np.count_nonzero(call == kind)) for kind in kinds}
    if calls.basis is not None:
        totals.genes = int(calls.basis.genes.sum())
        totals.genes_virus = int(calls.basis.viral_genes.sum())
    totals.called_by, totals.highest = str(calls.rule), _highest(plan, calls)
    totals.prevalence = None if calls.prevalence is None else round(calls.prevalence, 6)
    with written_whole(plan.folder.output("virus.fasta")) as stream:
        write_fasta(stream, _sequences(plan), call == VIRUS)


def _records(plan: Plan) -> Iterator[pa.Table]:
    return read_pieces(plan.folder.records, plan.records_fingerprint)


def _ids(plan: Plan, wanted: Collection[int]) -> dict[int, str]:
    """Ids of some records, by their index."""
    first = 0
    ids: dict[int, str] = {}
    for piece in _records(plan):
        here = [index for index in wanted if first <= index < first + len(piece)]
        ids |= {index: piece["record_id"][index - first].as_py() for index in here}
        first += len(piece)
    return ids


def _write_blocks(path: Path, header: str, blocks: Iterable[str]) -> None:
    with written_whole(path) as stream:
        stream.write(header.encode())
        stream.writelines(block.encode() for block in blocks)


def _highest(plan: Plan, calls: ContigCalls) -> list[dict[str, Any]]:
    first = calls.order[:_SHOWN].tolist()
    record_ids, columns = _ids(plan, first), {"score": calls.score}
    if calls.rule.has_probability:
        columns["probability"] = calls.probability
    return [
        {
            "record_id": record_ids[index],
            **{name: _rounded(values[index]) for name, values in columns.items()},
            "call": str(calls.call[index]),
        }
        for index in first
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
