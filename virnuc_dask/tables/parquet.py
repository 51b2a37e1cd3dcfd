"""Parquet files that are whole or not there, and whose footer says what they were made from."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_dask.errors import BadTableError, CannotWriteError

FINGERPRINT = b"virnuc.fingerprint"
ROWS = 65_536  # of a row group, and of a piece of a table that is read in pieces
_DISTINCT = ("chunk_id", "frame_id", "sequence")  # texts that hardly ever repeat in a table
HALF_WRITTEN = f".?*.{'[0-9a-f]' * 12}.part"  # names of files that are not whole yet
# A disk that is full, a limit on sizes, a folder or a disk that cannot be written: no fault of
# what was to be written, and the next table will not fare better.
_UNWRITABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
)
_DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError)


def local(path: Path) -> str:
    """``path`` as Arrow takes it for one: a relative one with a colon is an address to it."""
    return str(path.absolute())


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content appears under ``path`` when, and only when, all of it is on disk."""
    with _replacing(path) as temporary, temporary.open("wb") as stream:
        yield stream


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path``; the file of that name is flushed to disk and takes its place."""
    # Never the same twice: two attempts at one partition can overlap, in one process or in two.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        with unwritable_told(path):
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def unwritable_told(path: Path) -> Iterator[None]:
    """Turn what keeps ``path`` from being written, whatever is written, into `CannotWriteError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise CannotWriteError(
            f"{path}: {os.strerror(error.errno)}. What is done is kept: make room, or the folder "
            "writable, and continue with --resume."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with written_whole(path) as stream:
        stream.write(text.encode("utf-8"))


class TableWriter:
    """Writes a table that comes in pieces; small ones become one row group."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()


def write_table(path: Path, table: pa.Table, fingerprint: str) -> None:
    """Write ``table`` whole, its footer bearing ``fingerprint``."""
    with table_writer(path, table.schema, lambda: fingerprint) as writer:
        writer.write(table)


@contextmanager
def table_writer(
    path: Path, schema: pa.Schema, fingerprint: Callable[[], str]
) -> Iterator[TableWriter]:
    """A writer for a table that comes in pieces; ``fingerprint`` is asked after the last one."""
    # Embeddings do not compress, and their smallest value is never asked for.
    texts = [f.name for f in schema if pa.types.is_string(f.type)]
    long = [f.name for f in schema if pa.types.is_large_string(f.type)]
    plain = [f.name for f in schema if not pa.types.is_fixed_size_list(f.type)]
    with (
        _replacing(path) as temporary,
        # Arrow's own file: a Python one takes Python's lock for every piece.
        pa.OSFile(local(temporary), "wb") as stream,
        pq.ParquetWriter(
            stream,
            schema,
            use_dictionary=[name for name in texts if name not in _DISTINCT],
            write_statistics=plain,
            compression=dict.fromkeys([*texts, *long], "zstd"),
            write_page_checksum=True,
        ) as writer,
    ):
        pieces = TableWriter(writer)
        yield pieces
        pieces.flush()
        writer.add_key_value_metadata({FINGERPRINT: fingerprint().encode()})


def is_done(path: Path, fingerprint: str) -> bool:
    """Whether ``path`` is a whole table made from what ``fingerprint`` stands for."""
    return read_fingerprint(path) == fingerprint


def read_fingerprint(path: Path) -> str | None:
    """The fingerprint of a table; None where there is no whole table."""
    try:
        footer = pq.read_metadata(local(path)).metadata or {}
        return str(footer.get(FINGERPRINT, b"").decode())
    except _DAMAGE:
        return None


def count_rows(path: Path) -> int:
    """Rows of a table, from its footer alone."""
    return int(pq.read_metadata(local(path)).num_rows)


def read_table(path: Path, fingerprint: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table; `BadTableError` if it is missing, damaged, or made from something else."""
    with _opened(path, fingerprint) as file:
        # Without threads: tables are small, and a worker has its cores for the encoders.
        table = file.read(columns=list(columns) if columns is not None else None, use_threads=False)
    return table.replace_schema_metadata(None)


def read_pieces(
    path: Path, fingerprint: str | None, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a table, at most `ROWS` at a time; errors as of `read_table`.

    ``fingerprint`` is None where it does not matter what the table was made from.
    """
    with _opened(path, fingerprint) as file:
        # One by one: a reader of several row groups keeps what it has read.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(ROWS, [group], columns, use_threads=False):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


@contextmanager
def _opened(path: Path, fingerprint: str | None) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(local(path), page_checksum_verification=True) as file:
            footer = file.metadata.metadata or {}
            if fingerprint is not None and footer.get(FINGERPRINT) != fingerprint.encode():
                raise BadTableError(
                    f"{path}: was made from other input, settings or weights; refused."
                )
            yield file
    except FileNotFoundError as error:
        raise BadTableError(f"{path}: missing; `run --resume` makes it again.") from error
    except _DAMAGE as error:
        raise BadTableError(
            f"{path}: damaged ({error}); delete it and `run --resume` makes it again."
        ) from error
