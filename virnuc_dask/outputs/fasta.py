"""``virus.fasta`` and ``virus_regions.fasta``, put together from chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.outputs.regions import names

COLUMNS = ("record_index", "record_id", "start", "end", "sequence")
_LINE = 80
_WHOLE = 1 << 62  # more than a record's length
_Chunk = tuple[int, str, int, int, str]  # the columns above


def write_records(
    stream: IO[bytes],
    partitions: Iterable[pa.Table],
    wanted: NDArray[np.bool_],
    records: Iterable[pa.Table] = (),
) -> None:
    """Write the records that ``wanted`` picks by index.

    The records are put together from their chunks, so that standard input serves as well.

    Parameters
    ----------
    partitions
        All that have a wanted record, in order, with `COLUMNS`: a record's chunks may cross from
        one to the next.
    records
        Index and description of all, in order.
    """
    described = _picked(records, wanted, ("record_index", "description"))
    for (index, name), chunks in groupby(_chunks(partitions, wanted), key=lambda row: row[:2]):
        description = next((text for at, text in described if at == index), "")
        _write(stream, f"{name} {description}".rstrip(), _join(chunks, 0, _WHOLE))


def write_regions(
    stream: IO[bytes],
    partitions: Iterable[pa.Table],
    wanted: NDArray[np.bool_],
    regions: Iterable[pa.Table],
) -> None:
    """Write ``regions``, all in order, of the records that are ``wanted``; else as `write_records`.

    Of a record one region's chunks are held at a time.
    """
    chunks, held = _chunks(partitions, wanted), deque[_Chunk]()
    for table in regions:
        places = (table[name].to_pylist() for name in ("record_index", "start", "end"))
        for name, record, start, end in zip(names(table), *places, strict=True):
            while held and _end(held[0]) <= (record, start):
                held.popleft()
            while not held or _end(held[-1]) < (record, end):
                chunk = next(chunks)
                if _end(chunk) > (record, start):
                    held.append(chunk)
            _write(stream, name, _join(held, start, end))


def _chunks(partitions: Iterable[pa.Table], wanted: NDArray[np.bool_]) -> Iterator[_Chunk]:
    return _picked(partitions, wanted, COLUMNS)


def _picked(
    tables: Iterable[pa.Table], wanted: NDArray[np.bool_], columns: Sequence[str]
) -> Iterator[Any]:
    """Rows of wanted records, of these columns."""
    for table in tables:
        picked = table.filter(pa.array(wanted[table["record_index"].to_numpy()]))
        yield from zip(*(picked[name].to_pylist() for name in columns), strict=True)


def _end(chunk: _Chunk) -> tuple[int, int]:
    """Its record, and where in it the chunk ends: chunks come by these."""
    return chunk[0], chunk[3]


def _join(chunks: Iterable[_Chunk], first: int, last: int) -> str:
    """The DNA of a record from ``first`` to ``last``, which overlapping chunks were cut from."""
    pieces, covered = [], first
    for *_, start, end, sequence in chunks:
        pieces.append(sequence[covered - start : last - start])
        covered = end
    return "".join(pieces)


def _write(stream: IO[bytes], name: str, dna: str) -> None:
    lines = (dna[at : at + _LINE] for at in range(0, len(dna), _LINE))
    stream.write("\n".join([f">{name}", *lines, ""]).encode())
