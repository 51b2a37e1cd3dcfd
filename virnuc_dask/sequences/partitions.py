"""Record stream → partition files, in one pass and bounded memory.

The chunks of a partition are cut together, from arrays: no Python object stands for a chunk.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from virnuc_dask.sequences.chunks import count_chunks, span_arrays
from virnuc_dask.sequences.records import Record
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import ROWS, TableWriter, table_writer, write_table
from virnuc_dask.tables.plan import Counts, PlannedPartition

_IN_FLIGHT = 4  # partitions that wait to be written


def write_partitions(
    records: Iterable[Record],
    folder: RunFolder,
    chunk_length: int,
    partition_chunks: int,
    records_fingerprint: Callable[[], str],
) -> tuple[Counts, tuple[PlannedPartition, ...]]:
    """Cut records into chunks and write them, ``partition_chunks`` a file, and the record table.

    ``records_fingerprint`` is asked once all records have been read.
    """
    tally = _Tally(chunk_length)
    with (
        table_writer(folder.records, schemas.RECORDS, records_fingerprint) as writer,
        ThreadPoolExecutor(1, "partition-writer") as thread,
    ):
        groups = _group(tally.counting(records, writer), chunk_length, partition_chunks)
        partitions = tuple(_write_behind(thread, groups, folder, chunk_length))
    return tally.counts(), partitions


def count_records(records: Iterable[Record], chunk_length: int) -> Counts:
    """What `write_partitions` would count, without writing."""
    tally = _Tally(chunk_length)
    for _ in tally.counting(records):
        pass
    return tally.counts()


class _Piece(NamedTuple):
    """Neighbouring chunks of one record: so many, from ``first``, counted from 0."""

    record: Record
    first: int
    chunks: int


def _group(records: Iterable[Record], chunk_length: int, size: int) -> Iterator[list[_Piece]]:
    """Pieces of ``size`` chunks together; the last group may have fewer."""
    group: list[_Piece] = []
    room = size
    for record in records:
        first, left = 0, count_chunks(len(record.dna), chunk_length)
        while left:
            count = min(left, room)
            group.append(_Piece(record, first, count))
            first, left, room = first + count, left - count, room - count
            if not room:
                yield group
                group, room = [], size
    if group:
        yield group


def _write_behind(
    thread: ThreadPoolExecutor, groups: Iterable[list[_Piece]], folder: RunFolder, chunk_length: int
) -> Iterator[PlannedPartition]:
    """Write partitions while the next ones are read: compressing and the disk need no Python."""
    writing: deque[Future[PlannedPartition]] = deque()
    try:
        for index, group in enumerate(groups):
            if len(writing) == _IN_FLIGHT:
                yield writing.popleft().result()
            writing.append(thread.submit(_write, folder, index, _cut(group, chunk_length)))
        while writing:
            yield writing.popleft().result()
    finally:
        for write in writing:
            write.cancel()


def _write(folder: RunFolder, index: int, table: pa.Table) -> PlannedPartition:
    content = _content(table)
    write_table(folder.partition(index), table, content)
    return PlannedPartition(index, len(table), content)


def _cut(pieces: list[_Piece], chunk_length: int) -> pa.Table:
    """The chunks of ``pieces``: rows of `schemas.PARTITION`."""
    count = np.array([piece.chunks for piece in pieces])
    row = np.repeat(np.arange(len(pieces)), count)
    begin = np.cumsum(count) - count
    step = np.arange(len(row)) + np.array([piece.first for piece in pieces] - begin)[row]
    length_nt = np.array([len(piece.record.dna) for piece in pieces])[row]
    start, end = span_arrays(length_nt, step, chunk_length)
    dna = [piece.record.dna for piece in pieces]
    spans = zip(row.tolist(), start.tolist(), end.tolist(), strict=True)
    record_id = pa.array([piece.record.id for piece in pieces], pa.string()).take(pa.array(row))
    number = pa.array(step + 1)
    columns = [
        pc.binary_join_element_wise(record_id, number.cast(pa.string()), "_chunk_"),
        record_id,
        pa.array(np.array([piece.record.index for piece in pieces])[row]),
        number,
        pa.array(start),
        pa.array(end),
        pa.array([dna[piece][first:last] for piece, first, last in spans], pa.string()),
    ]
    return pa.table(columns, schema=schemas.PARTITION)


def _content(table: pa.Table) -> str:
    """The hash of a partition's rows: of numbers their bytes, of texts their lengths and bytes."""
    digest = xxhash.xxh3_128(f"{schemas.VERSION} {len(table)}".encode())
    for column in table.columns:
        values = column.combine_chunks()
        if pa.types.is_string(values.type):
            lengths = pc.binary_length(values).to_numpy()
            digest.update(lengths.astype("<i4").tobytes())
            digest.update(_text(values, int(lengths.sum())))
        else:
            digest.update(values.to_numpy().astype("<i8").tobytes())
    return digest.hexdigest()


def _text(values: pa.StringArray, size: int) -> memoryview:
    """All texts of a column, end to end."""
    _, offsets, data = values.buffers()
    first = int(np.frombuffer(offsets, np.int32)[values.offset])
    return memoryview(data)[first : first + size] if size else memoryview(b"")


class _Rows(NamedTuple):
    """Records to count and to write, column by column."""

    record_index: list[int]
    id: list[str]
    length_nt: list[int]


class _Tally:
    """Counts what passes by, eight bytes a record."""

    def __init__(self, chunk_length: int) -> None:
        self._chunk_length = chunk_length
        self._id_hashes = array("q")
        self._chunks = self._length_nt = self._shorter = self._rna = 0

    def counting(
        self, records: Iterable[Record], writer: TableWriter | None = None
    ) -> Iterator[Record]:
        """Pass records on; with a ``writer``, the record table is written on the way."""
        rows = _Rows([], [], [])
        for record in records:
            rows.record_index.append(record.index)
            rows.id.append(record.id)
            rows.length_nt.append(len(record.dna))
            self._rna += record.was_rna
            yield record
            if len(rows.id) == ROWS:
                self._take_in(rows, writer)
                rows = _Rows([], [], [])
        self._take_in(rows, writer)

    def _take_in(self, rows: _Rows, writer: TableWriter | None) -> None:
        # Python's own hash: 64 bits, compared within this process only.
        self._id_hashes.extend(map(hash, rows.id))
        length_nt = np.array(rows.length_nt, np.int64)
        chunks = -(-length_nt // self._chunk_length)
        self._chunks += int(chunks.sum())
        self._length_nt += int(length_nt.sum())
        self._shorter += int(np.count_nonzero(length_nt < self._chunk_length))
        if writer is not None:
            columns = [rows.record_index, rows.id, length_nt, chunks]
            writer.write(pa.table(columns, schema=schemas.RECORDS))

    def counts(self) -> Counts:
        """What has passed by."""
        hashes = np.sort(np.frombuffer(self._id_hashes, np.int64))
        return Counts(
            records=len(hashes),
            chunks=self._chunks,
            length_nt=self._length_nt,
            duplicate_ids=int(np.count_nonzero(hashes[1:] == hashes[:-1])),
            shorter_records=self._shorter,
            rna_records=self._rna,
        )
