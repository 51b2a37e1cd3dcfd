"""Pieces of a model card, which is Markdown: tables, figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_NONE = "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def number(value: float | None, decimals: int = 3) -> str:
    """A figure with so many decimals, a whole number in groups of three; a dash for None."""
    if value is None:
        return _NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:.{decimals}f}"


def percent(value: float | None) -> str:
    """A share as a percentage; a dash for None."""
    return _NONE if value is None else f"{100 * value:.1f} %"
