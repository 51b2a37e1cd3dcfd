"""Fields of tab-separated tables that spreadsheets and data frames read as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa

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


def _column(column: pa.ChunkedArray) -> Iterable[str]:
    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        return ["" if value is None else f"{value:.6f}" for value in values]
    if pa.types.is_string(column.type):
        return fields(value or "" for value in values)
    return ["" if value is None else str(value) for value in values]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
