"""Record stream → partition files, in one pass and bounded memory.

The chunks of a partition, or its pieces, are cut together, from arrays: none is a Python object.
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

from virnuc_dask.sequences.bases import share_of_gc
from virnuc_dask.sequences.chunks import Chunks, Pieces, places_of
from virnuc_dask.sequences.mates import ALONE
from virnuc_dask.sequences.records import Record
from virnuc_dask.sequences.topology import terminal_repeat
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import ROWS, TableWriter, table_writer, write_table
from virnuc_dask.tables.plan import Counts, PlannedPartition

Cutting = Chunks | Pieces

_IN_FLIGHT = 4  # partitions that wait to be written


def write_partitions(
    records: Iterable[Record],
    folder: RunFolder,
    cutting: Cutting,
    partition_chunks: int,
    records_fingerprint: Callable[[], str],
    partition_nt: int | None = None,
) -> tuple[Counts, tuple[PlannedPartition, ...]]:
    """Cut records into chunks or pieces, and write these and the record table.

    A partition has ``partition_chunks`` rows, or fewer if the last brings it to ``partition_nt``.
    ``records_fingerprint`` is asked once all records have been read. Of pieces the record table
    tells of terminal repeats.
    """
    tally = _Tally(cutting)
    with (
        table_writer(folder.records, tally.schema, records_fingerprint) as writer,
        ThreadPoolExecutor(1, "partition-writer") as thread,
    ):
        passing = tally.counting(records, writer)
        groups = _group(passing, cutting, partition_chunks, partition_nt)
        partitions = tuple(_write_behind(thread, groups, folder, cutting))
    return tally.counts(), partitions


def count_records(records: Iterable[Record], cutting: Cutting) -> Counts:
    """What `write_partitions` would count, without writing."""
    tally = _Tally(cutting)
    deque(tally.counting(records), maxlen=0)
    return tally.counts()


class _Group(NamedTuple):
    """So many neighbouring chunks, from ``first``, of the chunks that ``records`` have in turn."""

    records: list[Record]
    first: int  # of the chunks of the first record, counted from 0
    chunks: int


def _group(
    records: Iterable[Record], cutting: Cutting, rows: int, nt: int | None
) -> Iterator[_Group]:
    """Groups that end with their row number ``rows``, or with that which brings them to ``nt``."""
    group: list[Record] = []
    first = held = held_nt = 0
    for record in records:
        group.append(record)
        for step, size_nt in enumerate(cutting.sizes(len(record.dna))):
            if not group:
                group, first = [record], step
            held += 1
            held_nt += size_nt
            if held == rows or (nt is not None and held_nt >= nt):
                yield _Group(group, first, held)
                group, first, held, held_nt = [], 0, 0, 0
    if held:
        yield _Group(group, first, held)


def _write_behind(
    thread: ThreadPoolExecutor, groups: Iterable[_Group], folder: RunFolder, cutting: Cutting
) -> Iterator[PlannedPartition]:
    """Write partitions while the next ones are read: compressing and the disk need no Python."""
    writing: deque[Future[PlannedPartition]] = deque()
    try:
        for index, group in enumerate(groups):
            if len(writing) == _IN_FLIGHT:
                yield writing.popleft().result()
            writing.append(thread.submit(_write, folder, index, _cut(group, cutting)))
        while writing:
            yield writing.popleft().result()
    finally:
        for write in writing:
            write.cancel()


def _write(folder: RunFolder, index: int, table: pa.Table) -> PlannedPartition:
    content = _content(table)
    write_table(folder.partition(index), table, content)
    return PlannedPartition(index, len(table), content)


def _cut(group: _Group, cutting: Cutting) -> pa.Table:
    """The chunks or pieces of ``group``: rows of `schemas.PARTITION`."""
    ids, dna = [record.id for record in group.records], [record.dna for record in group.records]
    length_nt = np.fromiter(map(len, dna), np.int64, len(dna))
    count = cutting.count(length_nt)
    count[0] -= group.first
    count[-1] -= count.sum() - group.chunks
    row, step = places_of(count)
    step[: count[0]] += group.first
    start, end = cutting.spans(length_nt[row], step)
    spans = zip(row.tolist(), start.tolist(), end.tolist(), strict=True)
    record_id = pa.array(ids, pa.string()).take(pa.array(row))
    number = pa.array(step + 1)
    columns = [
        pc.binary_join_element_wise(record_id, number.cast(pa.string()), "_chunk_"),
        record_id,
        pa.array(np.array([record.index for record in group.records])[row]),
        number,
        pa.array(start),
        pa.array(end),
        pa.array([dna[place][first:last] for place, first, last in spans], pa.string()),
    ]
    return pa.table(columns, schema=schemas.PARTITION)


def _content(table: pa.Table) -> str:
    """The hash of a partition: of numbers their bytes, of texts their lengths and bytes."""
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


class _Tally:
    """Counts what passes by, eight bytes a record."""

    def __init__(self, cutting: Cutting) -> None:
        self._cutting = cutting
        self._looks_at_ends = isinstance(cutting, Pieces)
        self.schema = schemas.RECORDS_WITH_ENDS if self._looks_at_ends else schemas.RECORDS
        self._id_hashes = array("q")
        self._chunks = self._length_nt = self._shorter = self._rna = 0
        self._pairs = self._alone = 0

    def counting(
        self, records: Iterable[Record], writer: TableWriter | None = None
    ) -> Iterator[Record]:
        """Pass records on; with a ``writer``, the record table is written on the way."""
        rows: list[tuple[object, ...]] = []
        for record in records:
            origin = record.origin
            told = (record.index, record.id, len(record.dna), origin.mate)
            self._rna += origin.was_rna
            if writer:
                ends = (terminal_repeat(record.dna),) if self._looks_at_ends else ()
                gc = share_of_gc(record.dna)
                told = (*told, gc, origin.sample, record.description, *ends)
            rows.append(told)
            yield record
            if len(rows) == ROWS:
                self._take_in(rows, writer)
                rows.clear()
        if rows:
            self._take_in(rows, writer)

    def _take_in(self, rows: list[tuple[object, ...]], writer: TableWriter | None) -> None:
        index, ids, lengths, mates, *told = zip(*rows, strict=True)
        length_nt, mate = np.array(lengths, np.int64), np.array(mates, np.int8)
        # Python's own hash: 64 bits, compared within this process only. Mates may share an id.
        hashes = np.fromiter(map(hash, ids), np.int64, len(ids)) ^ (mate == 2)
        self._id_hashes.frombytes(hashes.tobytes())
        self._pairs += int(np.count_nonzero(mate == 2))
        self._alone += int(np.count_nonzero(mate == ALONE))
        chunks = self._cutting.count(length_nt)
        self._chunks += int(chunks.sum())
        self._length_nt += int(length_nt.sum())
        self._shorter += int(np.count_nonzero(length_nt < self._cutting.shortest_nt))
        if writer is not None:
            gc, sample, description, *ends = told
            columns = [index, ids, length_nt, chunks, gc, sample, description, mate, *ends]
            writer.write(pa.table(columns, schema=self.schema))

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
            pairs=self._pairs,
            lone_mates=self._alone,
        )
