"""Record stream → partition files, in one pass and bounded memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
import xxhash

from virnuc_dask.sequences.chunks import Chunk, chunk_spans, cut
from virnuc_dask.sequences.records import Record
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import TableWriter, table_writer, write_table
from virnuc_dask.tables.plan import Counts, PlannedPartition

_ROWS = 65_536  # records a write


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
    with table_writer(folder.records, schemas.RECORDS, records_fingerprint) as writer:
        chunks = _chunks(records, chunk_length, tally, writer)
        partitions: list[PlannedPartition] = []
        while group := list(islice(chunks, partition_chunks)):
            partitions.append(_write_partition(folder, len(partitions), group))
    return tally.counts(), tuple(partitions)


def count_records(records: Iterable[Record], chunk_length: int) -> Counts:
    """What `write_partitions` would count, without writing."""
    tally = _Tally(chunk_length)
    for record in records:
        tally.add(record, sum(1 for _ in chunk_spans(len(record.dna), chunk_length)))
    return tally.counts()


def _write_partition(folder: RunFolder, index: int, chunks: list[Chunk]) -> PlannedPartition:
    content = xxhash.xxh3_128(str(schemas.VERSION).encode())
    for c in chunks:
        content.update(f"{c.record_index}\t{c.id}\t{c.start}\t{c.end}\t{c.sequence}\n".encode())
    columns = [
        [c.id for c in chunks],
        [c.record_id for c in chunks],
        [c.record_index for c in chunks],
        [c.number for c in chunks],
        [c.start for c in chunks],
        [c.end for c in chunks],
        [c.sequence for c in chunks],
    ]
    table = pa.table(columns, schema=schemas.PARTITION)
    write_table(folder.partition(index), table, content.hexdigest())
    return PlannedPartition(index, len(chunks), content.hexdigest())


def _chunks(
    records: Iterable[Record], chunk_length: int, tally: _Tally, writer: TableWriter
) -> Iterator[Chunk]:
    """All chunks of all records; the record table is written on the way."""
    rows: list[tuple[int, str, int, int]] = []
    for record in records:
        count = 0
        for chunk in cut(record, chunk_length):
            count += 1
            yield chunk
        tally.add(record, count)
        rows.append((record.index, record.id, len(record.dna), count))
        if len(rows) == _ROWS:
            writer.write(_record_table(rows))
            rows.clear()
    writer.write(_record_table(rows))


def _record_table(rows: list[tuple[int, str, int, int]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    return pa.table([list(column) for column in columns], schema=schemas.RECORDS)


class _Tally:
    """Counts what passes by, eight bytes a record."""

    def __init__(self, chunk_length: int) -> None:
        self._chunk_length = chunk_length
        self._id_hashes = array("Q")
        self._chunks = self._length_nt = self._shorter = self._rna = 0

    def add(self, record: Record, chunks: int) -> None:
        self._id_hashes.append(xxhash.xxh3_64_intdigest(record.id.encode()))
        self._chunks += chunks
        self._length_nt += len(record.dna)
        self._shorter += len(record.dna) < self._chunk_length
        self._rna += record.was_rna

    def counts(self) -> Counts:
        hashes = np.frombuffer(self._id_hashes, np.uint64)
        return Counts(
            records=len(hashes),
            chunks=self._chunks,
            length_nt=self._length_nt,
            duplicate_ids=len(hashes) - len(np.unique(hashes)),
            shorter_records=self._shorter,
            rna_records=self._rna,
        )
