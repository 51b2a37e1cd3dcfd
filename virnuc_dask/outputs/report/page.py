"""A run's result files → ``report.html``, one page that fetches nothing."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from virnuc_dask.outputs.comparison import Comparison
from virnuc_dask.outputs.report.contigs import Contigs, Digest
from virnuc_dask.outputs.report.plots import draw
from virnuc_dask.outputs.report.strips import strips
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import written_whole
from virnuc_dask.tables.plan import read_run_json

REPORT = "report.html"
_LISTED = 20
_FAILED_LISTED = 50
_WIDEST = 200  # letters of an id, or of a reason
_NONE = "\u2013"
_WHERE_IT_FAILS = re.compile(r"^## Where it fails\s*\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Compared:
    """How the calls of another run of the same records differ."""

    folder: str
    records: int
    crossed: Mapping[tuple[str, str], int]  # this run's call and the other's
    differing: Sequence[tuple[str, str, str, float, float]]  # id, calls, values


def write_report(
    folder: RunFolder, rule: CallRule, card: str = "", others: Sequence[Path] = ()
) -> Path:
    """Write ``report.html`` of a finished run, and return its path.

    Parameters
    ----------
    rule
        What its calls were made by.
    card
        The model set's card, in Markdown.
    others
        Folders of runs to compare with.

    Raises
    ------
    BadTableError
        If a table is missing or damaged, or the run is not finished.
    """
    run, digest = read_run_json(folder), Digest.read(folder.output("contigs.tsv"), rule)
    listed = {
        "The most viral records": _rows(digest.highest),
        "The records nearest to the threshold": _rows(digest.nearest),
    }
    of_genes = run["modelset"].get("reading") == "genes"
    lengths = {row["index"]: row["length_nt"] for rows in listed.values() for row in rows}
    template = _environment().get_template("report.html.j2")
    page = template.render(
        run=run,
        found=run["summary"],
        inputs=[Path(name).name for name in run["inputs"]],
        unit="genes" if of_genes else "chunks",
        by=digest.by,
        lists=listed,
        strips=strips(folder, lengths, reads_genes=of_genes),
        plots=draw(digest, rule),
        q_values=_expected(digest) if rule.has_probability else [],
        failed=_failed(folder.output("failed.tsv")),
        fails=_where_it_fails(card),
        compared=[_compared(folder, other) for other in others],
    )
    with written_whole(folder.output(REPORT)) as stream:
        stream.write(page.encode())
    return folder.output(REPORT)


def _rows(contigs: Contigs | None) -> list[dict[str, Any]]:
    if contigs is None:
        return []
    return [
        {
            "index": int(contigs.row[place]),
            "id": contigs.record_id[place][:_WIDEST],
            "call": contigs.call[place],
            "value": contigs.value[place],
            "q_value": contigs.q_value[place],
            "length_nt": int(contigs.length_nt[place]),
        }
        for place in range(len(contigs))
    ]


def _expected(digest: Digest) -> list[tuple[float, int, float]]:
    """q-values, how many records are at most there, and how many of those are no virus."""
    return [(most, n, n * highest) for most, (n, highest) in digest.q_values.items()]


def _failed(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        lines = islice(csv.reader(stream, delimiter="\t"), 1, 1 + _FAILED_LISTED)
        return [[text[:_WIDEST] for text in line] for line in lines]


def _where_it_fails(card: str) -> list[tuple[str, str]]:
    """The points of the card's section, as (what, explanation)."""
    found = _WHERE_IT_FAILS.search(card)
    points = re.findall(r"^- (.*(?:\n  .*)*)", found[1], re.MULTILINE) if found else []
    parts = [" ".join(point.split()).replace("`", "").split("**") for point in points]
    return [(p[1], "".join(p[2:])) if len(p) > 2 else ("", "".join(p)) for p in parts]


def _compared(folder: RunFolder, other: Path) -> Compared:
    comparison = Comparison(folder, RunFolder.of_run(other))
    both = ((here, there) for here, there in comparison.differing() if here and there)
    changed = nlargest(_LISTED, both, key=lambda pair: abs(pair[0].value - pair[1].value))
    return Compared(
        str(other),
        comparison.calls.total(),
        comparison.calls,
        [
            (here.record_id[:_WIDEST], here.call, there.call, here.value, there.value)
            for here, there in changed
        ],
    )


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
    return environment


def _number(value: float | None, form: str = ".3f") -> str:
    """A number in this form; a dash where there is none."""
    return _NONE if value is None or value != value else format(value, form)
