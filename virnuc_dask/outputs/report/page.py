"""A run's result files → ``report.html``, one page that fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from virnuc_dask.outputs.report.contigs import Contigs, Rows
from virnuc_dask.outputs.report.plots import draw
from virnuc_dask.outputs.report.strips import strips
from virnuc_dask.stages.calls import VIRUS, CallRule
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import written_whole
from virnuc_dask.tables.plan import read_run_json

REPORT = "report.html"
_LISTED = 20
_FAILED_LISTED = 50
_Q_VALUES = (0.01, 0.05, 0.1, 0.2)
_NONE = "\u2013"
_WHERE_IT_FAILS = re.compile(r"^## Where it fails\s*\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Compared:
    """How the calls of another run of the same records differ."""

    folder: str
    records: int  # ids that both have, once each
    crossed: Mapping[tuple[str, str], int]  # this run's call and the other's
    differing: Sequence[tuple[str, str, str, float, float]]  # id, calls, values


def write_report(
    folder: RunFolder, rule: CallRule, card: str = "", others: Sequence[tuple[Path, CallRule]] = ()
) -> Path:
    """Write ``report.html`` of a finished run, and return its path.

    Parameters
    ----------
    rule
        What its calls were made by.
    card
        The model set's card, in Markdown.
    others
        Folders of runs to compare with, and their rules.

    Raises
    ------
    BadTableError
        If a table is missing or damaged, or the run is not finished.
    """
    run, contigs = read_run_json(folder), Contigs.read(folder.output("contigs.tsv"), rule)
    lists = {
        "The most viral records": contigs.most_viral(_LISTED),
        "The records nearest to the threshold": contigs.nearest(_LISTED),
    }
    of_genes = run["modelset"].get("reading") == "genes"
    shown = {int(row): int(contigs.length_nt[row]) for rows in lists.values() for row in rows}
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            found=run["summary"],
            inputs=[Path(name).name for name in run["inputs"]],
            unit="genes" if of_genes else "chunks",
            contigs=contigs,
            lists={title: _rows(contigs, rows) for title, rows in lists.items()},
            strips=strips(folder.path, shown, reads_genes=of_genes),
            plots=draw(contigs, rule),
            q_values=_expected(contigs) if rule.has_probability else [],
            failed=_failed(folder.output("failed.tsv")),
            fails=_where_it_fails(card),
            compared=[
                _compared(contigs, other, Contigs.read(other / "contigs.tsv", by))
                for other, by in others
            ],
        )
    )
    with written_whole(folder.output(REPORT)) as stream:
        stream.write(page.encode())
    return folder.output(REPORT)


def _rows(contigs: Contigs, rows: Rows) -> list[dict[str, Any]]:
    ids = contigs.record_id.take(rows).to_pylist()
    return [
        {
            "index": int(row),
            "id": record_id,
            "length_nt": int(contigs.length_nt[row]),
            "value": float(contigs.value[row]),
            "q_value": float(contigs.q_value[row]),
            "call": str(contigs.call[row]),
        }
        for row, record_id in zip(rows, ids, strict=True)
    ]


def _expected(contigs: Contigs) -> list[tuple[float, int, float]]:
    """q-values, how many records are at most there, and how many of those are no virus."""
    q_value = contigs.q_value
    counts = [(most, int((q_value <= most).sum())) for most in _Q_VALUES]
    return [
        (most, count, count * float(q_value[q_value <= most].max(initial=0)))
        for most, count in counts
    ]


def _failed(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        lines = islice(stream, 1, 1 + _FAILED_LISTED)
        return [line.rstrip("\n").split("\t") for line in lines]


def _where_it_fails(card: str) -> list[tuple[str, str]]:
    """The points of the card's section, as (what, explanation)."""
    found = _WHERE_IT_FAILS.search(card)
    points = re.findall(r"^- (.*(?:\n  .*)*)", found[1], re.MULTILINE) if found else []
    parts = [" ".join(point.split()).replace("`", "").split("**") for point in points]
    return [(p[1], "".join(p[2:])) if len(p) > 2 else ("", "".join(p)) for p in parts]


def _compared(contigs: Contigs, folder: Path, other: Contigs) -> Compared:
    mine, theirs = (_unique(of) for of in (contigs, other))
    shared = [record_id for record_id in mine if record_id in theirs]
    a = np.array([mine[i] for i in shared], np.int64)
    b = np.array([theirs[i] for i in shared], np.int64)
    pairs, count = np.unique(
        np.stack([contigs.call[a], other.call[b]], axis=1), axis=0, return_counts=True
    )
    change = np.abs(np.nan_to_num(contigs.value[a]) - np.nan_to_num(other.value[b]))
    change[contigs.call[a] == other.call[b]] = -1
    largest = [row for row in np.argsort(-change, kind="stable")[:_LISTED] if change[row] >= 0]
    return Compared(
        str(folder),
        len(shared),
        {(str(one), str(two)): int(n) for (one, two), n in zip(pairs, count, strict=True)},
        [
            (
                shared[row],
                str(contigs.call[a[row]]),
                str(other.call[b[row]]),
                float(contigs.value[a[row]]),
                float(other.value[b[row]]),
            )
            for row in largest
        ],
    )


def _unique(contigs: Contigs) -> dict[str, int]:
    """Rows by id, of ids that occur once."""
    rows: dict[str, int] = {}
    repeated = set()
    for row, record_id in enumerate(contigs.record_id.to_pylist()):
        if record_id in rows:
            repeated.add(record_id)
        rows[record_id] = row
    return {record_id: row for record_id, row in rows.items() if record_id not in repeated}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("virnuc_dask.outputs.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.globals["VIRUS"] = VIRUS
    return environment


def _number(value: float | None, form: str = ".3f") -> str:
    """A number in this form; a dash where there is none."""
    return _NONE if value is None or value != value else format(value, form)
