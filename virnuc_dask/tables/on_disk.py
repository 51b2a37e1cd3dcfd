"""What is too much for memory, in a file without a name: gone once closed, and after a kill too."""

from __future__ import annotations

import itertools
import tempfile
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.tables.parquet import ROWS, unwritable_told

RUN_BYTES = 32 << 20  # of rows that are sorted together, in memory
PIECES = 64  # of a run: of each run one piece is in memory while runs are merged


class SortedRows:
    """Sorts a table that comes in pieces: parts of it in memory, which are merged from disk.

    Equal rows keep their order. Texts are ordered by their bytes; numbers must be none that are
    not a number. Memory is `RUN_BYTES`, some times over, and a `PIECES`-th of the rows on disk.

    Parameters
    ----------
    schema
        Columns of the table; the first one is sorted by.
    folder
        Where the file lies; default: where the system has its temporary files.
    """

    def __init__(self, schema: pa.Schema, folder: Path | None = None) -> None:
        self._schema, self._file = schema, _File(folder)
        self._waiting, self._waiting_bytes = list[pa.Table](), 0
        self._runs: list[list[tuple[int, int]]] = []  # places in the file of each run's pieces

    def add(self, table: pa.Table) -> None:
        """Take in rows."""
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes >= RUN_BYTES:
            self._runs.append([self._file.store(piece) for piece in self._sorted_run()])

    def merged(self) -> Iterator[pa.Table]:
        """All rows in order, some at a time."""
        runs = [self._file.stored(run, self._schema) for run in self._runs]
        return _merged([*runs, iter(self._sorted_run())])

    def _sorted_run(self) -> list[pa.Table]:
        run = _sorted(pa.concat_tables([self._schema.empty_table(), *self._waiting]))
        self._waiting, self._waiting_bytes = [], 0
        rows = max(1, len(run) // PIECES)
        return [run.slice(start, rows) for start in range(0, len(run), rows)]


def _sorted(table: pa.Table) -> pa.Table:
    """Rows by their first column; equal ones keep their order."""
    table = table.combine_chunks()
    return table.take(pc.sort_indices(table.column(0)))


def _merged(runs: list[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Sorted runs → their rows in order; of equal rows those of an earlier run come first."""
    heads = [(run, piece) for run in runs if (piece := next(run, None)) is not None]
    while heads:
        # Whatever is not behind the end of the piece that ends first is there by now.
        ends = [piece.column(0)[-1].as_py() for _, piece in heads]
        first = min(range(len(heads)), key=lambda at: (ends[at], at))
        ready, rest = [], []
        for at, (run, piece) in enumerate(heads):
            bisect = bisect_right if at <= first else bisect_left
            rows = bisect(piece.column(0), ends[first], key=methodcaller("as_py"))
            ready.append(piece.slice(0, rows))
            later = piece.slice(rows) if rows < len(piece) else next(run, None)
            if later is not None:
                rest.append((run, later))
        heads = rest
        yield _sorted(pa.concat_tables(ready))


class KeptRows:
    """A table that comes in pieces, on disk: it can be read as often as one likes.

    ``folder`` is as of `SortedRows`.
    """

    def __init__(self, schema: pa.Schema, folder: Path | None = None) -> None:
        self._schema, self._file = schema, _File(folder)
        self._places = list[tuple[int, int]]()

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        if len(table):
            self._places.append(self._file.store(table))

    def pieces(self) -> Iterator[pa.Table]:
        """All rows in the order in which they came, as many at a time."""
        return self._file.stored(self._places, self._schema)


class RecordRows:
    """A row of numbers for each record: on disk, but for the records that can still change.

    Those are the last ones: records come in the order of the input.

    Parameters
    ----------
    fresh
        Rows of all records before anything is known of them, many at a time; taken as needed.
    dtype
        Theirs, a structured type.
    folder
        As of `SortedRows`.
    """

    def __init__(
        self, fresh: Iterable[NDArray[Any]], dtype: np.dtype[Any], folder: Path | None = None
    ) -> None:
        self._fresh, self._dtype, self._file = iter(fresh), dtype, _File(folder)
        self._first, self._open = 0, np.empty(0, dtype)  # the records in memory

    def within(self, first: int, last: int) -> NDArray[Any]:
        """Rows of records, ``last`` included; what is written into them stays.

        Raises
        ------
        LostRowsError
            If the first has ended, or there is no such record.
        """
        while last - self._first >= len(self._open):
            if (more := next(self._fresh, None)) is None:
                break
            self._open = np.concatenate([self._open, more])
        rows = self._open[max(0, first - self._first) : last + 1 - self._first]
        if len(rows) != last + 1 - first:
            raise LostRowsError(f"records {first} to {last} are not in order, or not there.")
        return rows

    def end(self, before: int) -> None:
        """Nothing changes any more of the records before this one."""
        ended = max(0, before - self._first)
        self._file.append(self._open[:ended].tobytes())
        self._open, self._first = self._open[ended:], self._first + ended

    def pieces(self) -> Iterator[NDArray[Any]]:
        """The rows of all records, at most `ROWS` at a time; if there is none, a piece of none.

        Nothing changes any more.
        """
        for rows in itertools.chain([self._open], self._fresh):
            self._file.append(rows.tobytes())
            self._first += len(rows)
        self._open = np.empty(0, self._dtype)
        size = self._dtype.itemsize
        for first in range(0, max(1, self._first), ROWS):
            count = min(ROWS, self._first - first)
            yield np.frombuffer(self._file.read(first * size, count * size), self._dtype)


class _File:
    """Bytes on disk, by their place; the file has no name, and goes with its last user."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._size = folder or Path(tempfile.gettempdir()), 0
        with unwritable_told(self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # see below
        weakref.finalize(self, self._file.close)

    def append(self, data: bytes | pa.Buffer) -> tuple[int, int]:
        """Returns where it lies, and how many bytes."""
        with unwritable_told(self._folder):
            self._file.seek(self._size)
            self._file.write(data)
        place = self._size, len(data)
        self._size += len(data)
        return place

    def store(self, table: pa.Table) -> tuple[int, int]:
        """As `append`, of a table with rows."""
        (batch,) = table.combine_chunks().to_batches()
        return self.append(batch.serialize())

    def stored(self, places: Iterable[tuple[int, int]], schema: pa.Schema) -> Iterator[pa.Table]:
        """The tables in these places, one by one."""
        for place in places:
            batch = pa.ipc.read_record_batch(pa.py_buffer(self.read(*place)), schema)
            yield pa.Table.from_batches([batch])

    def read(self, start: int, size: int) -> bytes:
        with unwritable_told(self._folder):  # what waits is written first
            self._file.seek(start)
            return self._file.read(size)
