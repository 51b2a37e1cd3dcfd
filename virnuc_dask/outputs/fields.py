"""Fields of tab-separated tables that spreadsheets and data frames read as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from virnuc_dask.tables.parquet import written_whole

_SPECIAL = re.compile(r'["\t\r\n]')


def fields(texts: Iterable[str]) -> list[str]:
    """Texts as fields: one with a quote, a tab or the end of a line is quoted (RFC 4180).

    A quote that opens a field would swallow all rows up to the next one. Texts without any of these
    stay what they are. Letters that make a formula in a spreadsheet are left, too: ids are data.
    """
    return [_quoted(text) if _SPECIAL.search(text) else text for text in texts]


def header(schema: pa.Schema) -> str:
    """The first line of a tab-separated table."""
    return "\t".join(schema.names) + "\n"


def lines(table: pa.Table) -> str:
    """The rows of a table: numbers that are not whole with six decimals, null as nothing."""
    rows = zip(*(_column(column) for column in table.columns), strict=True)
    return "".join(["\t".join(row) + "\n" for row in rows])


@contextmanager
def text_table(path: Path, first: str = "") -> Iterator[TextIO]:
    """A file for lines, below the ``first`` one, that appears when, and only when, it is whole."""
    with written_whole(path) as stream, TextIOWrapper(stream, "utf-8", newline="\n") as text:
        text.write(first)
        yield text


def _column(column: pa.ChunkedArray) -> Iterable[str]:
    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        return ["" if value is None else f"{value:.6f}" for value in values]
    if pa.types.is_string(column.type):
        return fields(value or "" for value in values)
    return ["" if value is None else str(value) for value in values]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
