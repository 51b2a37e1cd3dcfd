"""Pieces of an HTML page: escaped text, numbers, tables, inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from xml.etree import ElementTree

from virnuc_dask.lab.quality.plots import FAINT, INK, Plot

Row = Sequence[str]  # cells that are HTML already

NO_BREAK = "\xa0"  # a space
NONE = '<span class="none">&ndash;</span>'


def stylesheet() -> str:
    """The page's own style sheet."""
    return files("virnuc_dask.lab.quality").joinpath("page.css").read_text(encoding="utf-8")


def text(value: object) -> str:
    """Text from outside, escaped; letters that cannot be shown are replaced."""
    shown = (c if c.isprintable() or c == NO_BREAK else "\ufffd" for c in str(value))
    return escape("".join(shown))


def number(value: float | None) -> str:
    """A figure with three decimals; a dash where it is not defined."""
    return NONE if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A share as a percentage; a dash where it is not defined."""
    return NONE if value is None else f"{100 * value:.1f} %"


def interval(bounds: Sequence[float] | None, form: str) -> str:
    """An interval in brackets behind its figure; nothing where there is none."""
    if bounds is None:
        return ""
    low, high = (format(bound, form) for bound in bounds)
    return f" <small>[{low}, {high}]</small>"


def section(title: str, meaning: str, *parts: str) -> str:
    """A section with what it shows in a sentence or two."""
    return (
        f'<section><h2>{text(title)}</h2><p class="meaning">{text(meaning)}</p>'
        f"{''.join(parts)}</section>"
    )


def table(head: Iterable[str], rows: Iterable[Row], texts: int) -> str:
    """A table whose first ``texts`` columns are text, the others numbers.

    Rows that begin with the same cell stand together.
    """

    def cells(tag: str, row: Iterable[str]) -> str:
        return "".join(
            f'<{tag} class="text">{cell}</{tag}>' if place < texts else f"<{tag}>{cell}</{tag}>"
            for place, cell in enumerate(row)
        )

    blocks = (block for _, block in groupby(rows, key=lambda row: row[0]))
    body = "</tbody><tbody>".join(
        "".join(f"<tr>{cells('td', row)}</tr>" for row in block) for block in blocks
    )
    return (
        f'<div class="table"><table><thead><tr>{cells("th", map(text, head))}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def inline_svg(plot: Plot) -> str:
    """The plot as an element of the page: in the page's colours, its ids its own."""
    root = ElementTree.fromstring(plot.svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({k: _own(k, v, plot.name) for k, v in attributes.items()})
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": plot.caption}
    return ElementTree.tostring(root, encoding="unicode")


def _own(attribute: str, value: str, name: str) -> str:
    if attribute == "id":
        return f"{name}-{value}"
    if attribute == "href":
        return value.replace("#", f"#{name}-")
    value = value.replace("url(#", f"url(#{name}-")
    return value.replace(INK, "currentColor").replace(FAINT, "var(--line)")
