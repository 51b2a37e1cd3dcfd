"""Fields of tab-separated tables that spreadsheets and data frames read as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPECIAL = re.compile(r'["\t\r\n]')


def fields(texts: Iterable[str]) -> list[str]:
    """Texts as fields: one with a quote, a tab or the end of a line is quoted (RFC 4180).

    A quote that opens a field would swallow all rows up to the next one. Texts without any of these
    stay what they are. Letters that make a formula in a spreadsheet are left, too: ids are data.
    """
    return [_quoted(text) if _SPECIAL.search(text) else text for text in texts]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
