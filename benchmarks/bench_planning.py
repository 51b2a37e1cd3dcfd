"""What surrounds the encoders: planning, the feature writer, the start of a run.

Planning is FASTA → partition files, on one core, for three inputs: contigs of ordinary lengths, a
single long record, and reads of 150 nt; the peak is the resident memory of the whole process. The
writer stores tables of random embeddings as they leave the encoders. ``start_up`` is the wall-clock
time of whole commands; ``first_partition_s`` ends where the first partition of a run with ``mini``
is done, not begun.
Each measurement has a process of its own, and the medians of the repeats count. On a machine that
is shared, trust the rates by processor time. The last line is JSON.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from measured import (
    DEMO,
    LINE,
    Figures,
    draw_letters,
    in_lines,
    medians,
    on_one_core,
    options_of,
    peak_bytes,
    report,
    spent,
    tell,
)

from virnuc_dask.lab.speed.process import in_own_process
from virnuc_dask.lab.speed.run_log import DONE, read_events
from virnuc_dask.sequences.partitions import write_partitions
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import write_table
from virnuc_dask.tables.plan import Counts, fingerprint
from virnuc_dask.tables.vectors import to_column

CHUNK_LENGTH, PARTITION_CHUNKS = 500, 1000
CONTIG_NT, READ_NT = 5_000, 150
DIMS = (768, 2560)  # DNABERT-S, ESM-2 3B


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--contigs-mbp", type=float, default=200, help="contigs of about 5 kbp")
    parser.add_argument("--record-mbp", type=float, default=200, help="a single record")
    parser.add_argument("--reads", type=int, default=1_000_000, help="reads of 150 nt")
    parser.add_argument("--frames", type=int, default=2_000, help="frames to store")
    parser.add_argument("--work", type=Path, help="where inputs and tables are put for the time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder = Path(work)
        inputs = {
            "contigs": draw_fasta(folder / "contigs.fa", options.contigs_mbp, CONTIG_NT),
            "long_record": draw_fasta(folder / "long.fa", options.record_mbp, None),
            "reads": draw_fasta(folder / "reads.fa", options.reads * READ_NT / 1e6, READ_NT),
        }

        def repeated(work: Callable[..., Figures], *args: object) -> Figures:
            return medians([in_own_process(work, *args) for _ in range(options.repeats)])

        result = {
            "benchmark": "planning",
            "planning": {name: repeated(plan, path) for name, path in inputs.items()},
            "writer": {dtype: repeated(store, dtype, options.frames) for dtype in schemas.DTYPES},
            "start_up": repeated(start),
        }
    report(result, options, "pyarrow")


def draw_fasta(path: Path, megabases: float, record_nt: int | None) -> Path:
    """Random DNA in records of about ``record_nt`` (reads exactly), or in a single one."""
    rng = np.random.default_rng(1)
    left, number = round(megabases * 1e6), 0
    with path.open("wb") as stream:
        while left > 0:
            length = left
            if record_nt is not None:
                spread = 0 if record_nt == READ_NT else 0.8
                length = min(left, max(1, int(rng.lognormal(np.log(record_nt), spread) + 0.5)))
            stream.write(b">record_%d\n" % number)
            for at in range(0, length, LINE * 100_000):
                dna = draw_letters(rng, b"ACGT", min(LINE * 100_000, length - at))
                stream.writelines(in_lines(dna))
            left, number = left - length, number + 1
    return path


def plan(fasta: Path) -> Figures:
    """FASTA → partitions on one core: rates and memory."""
    with on_one_core(), tempfile.TemporaryDirectory(dir=fasta.parent) as work:
        figures = write_plan(fasta, Path(work))
    tell(f"{fasta.name}: {figures}")
    return figures


def write_plan(fasta: Path, work: Path) -> Figures:
    folder = RunFolder(work)
    folder.prepare(resume=False, force=False)
    digest, made = xxhash.xxh3_128(), list[Counts]()
    before = peak_bytes()
    records, sizes = read_records([str(fasta)], digest), (CHUNK_LENGTH, PARTITION_CHUNKS)
    mark = partial(fingerprint, "input", CHUNK_LENGTH)
    took = spent(lambda: made.append(write_partitions(records, folder, *sizes, mark)[0]))
    (counts,) = made
    return {
        "megabases": counts.length_nt / 1e6,
        "records": counts.records,
        "mbp_per_s": counts.length_nt / 1e6 / took["wall_s"],
        "mbp_per_cpu_s": counts.length_nt / 1e6 / took["cpu_s"],
        "records_per_cpu_s": counts.records / took["cpu_s"],
        "peak_mb": peak_bytes() / 1e6,
        "peak_before_mb": before / 1e6,
    }


def store(dtype: str, frames: int) -> Figures:
    """Embeddings of ``frames`` frames → a feature table on disk."""
    rng = np.random.default_rng(1)
    embeddings = [rng.standard_normal((frames, dim), np.float32) for dim in DIMS]
    chunk_ids = [f"record_{row // 20}_chunk_{row % 20}" for row in range(frames)]
    names = [
        [name + "F1" for name in chunk_ids],
        chunk_ids,
        [name.rpartition("_chunk")[0] for name in chunk_ids],
        list(range(frames)),
        ["F"] * frames,
        [0] * frames,
    ]
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "part-00000.parquet"

        def write() -> None:
            vectors = [to_column(values, dtype) for values in embeddings]
            table = pa.table([*names, *vectors], schema=schemas.features(*DIMS, dtype))
            write_table(path, table, "fingerprint")

        write()
        took = spent(write)
        megabytes = path.stat().st_size / 1e6
    figures = {
        "megabytes": megabytes,
        "mb_per_s": megabytes / took["wall_s"],
        "frames_per_s": frames / took["wall_s"],
        "frames_per_cpu_s": frames / took["cpu_s"],
    }
    tell(f"writer, {dtype}: {figures}")
    return figures


def start() -> Figures:
    """Seconds of whole commands, and until a run's first partition is done."""
    figures = {
        "python_s": timed("-c", "pass"),
        "import_s": timed("-c", "import virnuc_dask"),
        "help_s": timed("-m", "virnuc_dask", "--help"),
        "run_help_s": timed("-m", "virnuc_dask", "run", "--help"),
        "first_partition_s": first_partition_s(),
    }
    tell(f"start-up: {figures}")
    return figures


def timed(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}")
    return time.perf_counter() - start


def first_partition_s() -> float:
    with tempfile.TemporaryDirectory() as work:
        out, began = Path(work) / "out", time.time()
        timed("-m", "virnuc_dask", "run", str(DEMO), "-o", str(out), "--cluster", "cpu", "--quiet")
        done = next(event for event in read_events(out) if event["event"] == DONE)
        return datetime.fromisoformat(done["time"]).timestamp() - began


if __name__ == "__main__":
    main()
