"""The end of a run: what all result files take in time and memory, by chunks and records.

Tables of a run are drawn, not computed: ids in no order, and scores of which hardly two records
have the same evidence, so that all that is sorted is sorted in earnest. Sequences are short: they
pass by a partition at a time. ``added_mb`` is the most memory beyond what the process held when the
plan stood, ``plan_mb`` what the plan took; ``page_s``, ``page_added_mb`` and ``page_kb`` are of
``report.html``. Each point has a process of its own. The last line is JSON.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from measured import Figures, options_of, peak_bytes, report, spent, tell

from virnuc_dask.lab.speed.process import in_own_process
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.outputs.report.page import write_report
from virnuc_dask.outputs.results import Totals, write_results
from virnuc_dask.stages.calls import VIRUS, CallRule
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import ROWS, table_writer, write_table
from virnuc_dask.tables.plan import Counts, Decisions, Plan, PlannedPartition, write_run_json

CHUNK_NT = 20
FRAMES_A_CHUNK = 0.55  # as random DNA of 150 nt has
_KNOTS = ((-8.0, -6.0), (8.0, 6.0))
RULE = CallRule(Calibration(_KNOTS, 0.2, 0.0, _KNOTS, "drawn"))


def main() -> None:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("--chunks", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--chunks-a-record", type=int, nargs="*", default=[10, 1])
    parser.add_argument("--partition-chunks", type=int, default=10_000)
    parser.add_argument("--work", type=Path, help="where tables are put for the time")
    options = parser.parse_args()
    points: list[Figures] = []
    for chunks in options.chunks:
        for share in options.chunks_a_record:
            with tempfile.TemporaryDirectory(dir=options.work) as work:
                run = Path(work), chunks, share, options.partition_chunks
                in_own_process(draw_run, *run)
                points.append(in_own_process(measure, *run))
            report({"benchmark": "finish", "points": points}, options, "pyarrow")


def make_plan(work: Path, chunks: int, share: int, partition_chunks: int) -> Plan:
    digest, records = f"{0:032x}", -(-chunks // share)
    sizes = (min(partition_chunks, chunks - at) for at in range(0, chunks, partition_chunks))
    return Plan(
        RunFolder(work),
        Decisions(digest, CHUNK_NT, partition_chunks, "fp32", digest, digest),
        Counts(records, chunks, chunks * CHUNK_NT, 0, 0),
        tuple(PlannedPartition(i, size, f"{i:032x}") for i, size in enumerate(sizes)),
    )


def draw_run(work: Path, chunks: int, share: int, partition_chunks: int) -> None:
    """Write the tables of a run whose records have ``share`` chunks each."""
    plan = make_plan(work, chunks, share, partition_chunks)
    plan.folder.prepare(resume=False, force=False)
    for task in plan.tasks():
        rng = np.random.default_rng(task.index)
        first = task.index * partition_chunks
        partition = draw_chunks(np.arange(first, first + task.chunks), share)
        write_table(plan.folder.partition(task.index), partition, task.content)
        write_table(task.predictions_path, draw_frames(rng, partition), task.predictions)
    write_records(plan, share)


def draw_chunks(chunk: np.ndarray, share: int) -> pa.Table:
    record, number = chunk // share, chunk % share
    columns = [
        pc.binary_join_element_wise(ids_of(record), pa.array(number + 1).cast("string"), "_chunk_"),
        ids_of(record),
        record,
        number + 1,
        number * CHUNK_NT,
        (number + 1) * CHUNK_NT,
        ["ACGTTGCAACGTTGCAACGT"] * len(chunk),
    ]
    return pa.table([pa.array(column) for column in columns], schema=schemas.PARTITION)


def ids_of(record: np.ndarray) -> pa.Array:
    """Names of records, each its own, and in no order."""
    shuffled = record * 0x9E3779B1 % (1 << 32)  # an odd factor: no two are the same
    return pc.binary_join_element_wise("contig", pa.array(shuffled).cast("string"), "_")


def draw_frames(rng: np.random.Generator, chunks: pa.Table) -> pa.Table:
    rows = np.sort(rng.integers(0, len(chunks), round(FRAMES_A_CHUNK * len(chunks))))
    ids, virus = chunks["chunk_id"].take(rows), rng.random(len(rows), np.float32)
    columns = [
        pc.binary_join_element_wise(ids, "F1", ""),
        ids,
        chunks["record_id"].take(rows),
        pa.array(rows, pa.int32()),
        pa.array(np.where(virus > 0.5, VIRUS, "others")),
        pa.array(1 - virus),
        pa.array(virus),
    ]
    return pa.table(columns, schema=schemas.PREDICTIONS)


def write_records(plan: Plan, share: int) -> None:
    total, chunks = plan.counts.records, plan.counts.chunks
    mark = plan.records_fingerprint
    with table_writer(plan.folder.records, schemas.RECORDS, lambda: mark) as writer:
        for first in range(0, total, ROWS):
            record = np.arange(first, min(first + ROWS, total))
            counts = np.minimum(share, chunks - record * share)
            columns = [record, ids_of(record), counts * CHUNK_NT, counts, np.full(len(record), 0.5)]
            columns += [["drawn"] * len(record), [""] * len(record), np.zeros(len(record), np.int8)]
            writer.write(pa.table(list(map(pa.array, columns)), schema=schemas.RECORDS))


def measure(work: Path, chunks: int, share: int, partition_chunks: int) -> Figures:
    """Write all result files of a drawn run."""
    before = peak_bytes(anew=True)
    plan = make_plan(work, chunks, share, partition_chunks)
    planned = peak_bytes(anew=True)
    totals: list[Totals] = []
    took = spent(lambda: totals.append(write_results(plan, [], RULE)))
    point = {
        "chunks": chunks,
        "records": plan.counts.records,
        **{name: round(seconds, 1) for name, seconds in took.items()},
        "plan_mb": round((planned - before) / 1e6, 1),
        "added_mb": round((peak_bytes() - planned) / 1e6, 1),
        "peak_mb": round(peak_bytes() / 1e6, 1),
        "written_mb": round(sum(plan.folder.output_sizes().values()) / 1e6),
        **measure_page(plan, totals[0]),
    }
    tell(f"finish: {point}")
    return point


def measure_page(plan: Plan, totals: Totals) -> Figures:
    """Write the page of a drawn run."""
    told = {name: value for name, value in asdict(totals).items() if value is not None}
    summary = told | {"finished": "now", "elapsed_s": 0, "chunks_failed": 0, "cluster": {}}
    run = {
        "virnuc_dask": "0",
        "inputs": ["drawn"],
        "settings": {"model": "mini"},
        "versions": {},
        "modelset": {"name": "drawn", "version": "0", "checksum": "0" * 64, "files": {}},
        "plan": plan.as_json(),
        "summary": summary,
    }
    write_run_json(plan.folder, run)
    before, start = peak_bytes(anew=True), time.perf_counter()
    page = write_report(plan.folder, RULE)
    return {
        "page_s": round(time.perf_counter() - start, 1),
        "page_added_mb": round((peak_bytes() - before) / 1e6, 1),
        "page_kb": round(page.stat().st_size / 1e3),
    }


if __name__ == "__main__":
    main()
