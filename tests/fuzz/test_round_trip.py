"""Drawn records through a whole run: nothing is lost, nothing is added, nothing changes."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.outputs.fasta import write_records
from virnuc_dask.run import run
from virnuc_dask.sequences.frames import find_frames

ids = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=9)
dna = st.one_of(
    st.text("ACGT", max_size=40),
    st.text("ACGTNRYacgtun-", max_size=1700),
    st.builds(
        lambda unit, n: unit * n, st.text("ACG", min_size=1, max_size=9), st.integers(1, 250)
    ),
)
records = st.lists(st.tuples(ids, dna), max_size=12)


@settings(max_examples=12, deadline=None)
@given(records, st.sampled_from([300, 500]), st.integers(1, 7), st.integers(1, 90))
def test_every_record_chunk_and_frame_comes_out_once(
    frames_modelset, written, length, partition_chunks, width
):
    with TemporaryDirectory() as name:
        folder = Path(name)
        lines = []
        for record_id, letters in written:
            lines += [
                f">{record_id}",
                *(letters[n : n + width] for n in range(0, len(letters), width)),
            ]
        (folder / "in.fa").write_text("\n".join(lines), encoding="utf-8")
        done = run(
            [folder / "in.fa"],
            folder / "out",
            settings=Settings(
                model=str(frames_modelset),
                length=length,
                partition_chunks=partition_chunks,
                cluster=ClusterSettings(kind="none", threads=1),
            ),
        )
        done.require_complete()
        check_run(folder / "out", written, done.summary)


def check_run(out: Path, written: list[tuple[str, str]], summary: dict) -> None:
    """Compare a run's files with the records that went in, and with each other."""
    as_dna = [
        (record_id, letters.replace("U", "T").replace("u", "t")) for record_id, letters in written
    ]
    partitions = [pq.read_table(path) for path in sorted((out / "partitions").glob("part-*"))]
    predictions = [pq.read_table(path) for path in sorted((out / "predictions").glob("part-*"))]
    features = [
        pq.read_metadata(path).num_rows for path in sorted((out / "features").glob("part-*"))
    ]
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert [part["chunks"] for part in plan["partitions"]] == [
        table.num_rows for table in partitions
    ]

    # Chunks cover every record without a gap: put together they are what went in.
    with pa.BufferOutputStream() as stream:
        write_records(stream, iter(partitions), np.ones(len(written), np.bool_))
        entries = f"\n{stream.getvalue().to_pybytes().decode()}".split("\n>")[1:]
    joined = [(entry.split("\n")[0], "".join(entry.split("\n")[1:])) for entry in entries]
    assert joined == [(record_id, letters) for record_id, letters in as_dna if letters]

    # Frames in, rows out, in order.
    expected = [
        f"{chunk_id}{frame.suffix}"
        for table in partitions
        for chunk_id, frames in zip(
            table["chunk_id"].to_pylist(), find_frames(table["sequence"].to_pylist()), strict=True
        )
        for frame in frames
    ]
    assert [frame for table in predictions for frame in table["frame_id"].to_pylist()] == expected
    assert features == [table.num_rows for table in predictions]
    assert [row[0] for row in rows_of(out / "prediction_results.txt")] == expected

    # Every chunk and every record has its line.
    chunks = pq.read_table(out / "chunks.parquet")
    assert chunks.num_rows == sum(table.num_rows for table in partitions) == summary["chunks"]
    assert sum(chunks["frames"].to_pylist()) == len(expected) == summary["frames"]
    contigs = rows_of(out / "contigs.tsv")
    assert [row[:2] for row in contigs] == [[i, str(len(d))] for i, d in as_dna]


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a table, without its header."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, delimiter="\t"))[1:]
