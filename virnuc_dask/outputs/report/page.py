"""A run's result files → ``report.html``, one page that fetches nothing."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from virnuc_dask.modelsets.manifest import card_of, find
from virnuc_dask.outputs.comparison import Comparison
from virnuc_dask.outputs.report.contigs import Digest
from virnuc_dask.outputs.report.plots import called_from, scatter
from virnuc_dask.outputs.report.strips import strips
from virnuc_dask.stages.calls import OTHERS, UNSCORED, UNSURE, VIRUS, VIRUS_REGION, CallRule
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import write_text
from virnuc_dask.tables.plan import read_run_json, write_run_json

REPORT = "report.html"
_LISTED = 20
_FAILED_LISTED = 20
_SAMPLES_LISTED = 100
_ORDER = (VIRUS, VIRUS_REGION, OTHERS, UNSURE, UNSCORED)  # of calls; others are named last
_WIDEST = 200  # letters of an id, or of a reason
_NONE = "\u2013"
_WHERE_IT_FAILS = re.compile(r"^## Where it fails\s*\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def write_report(folder: RunFolder, rule: CallRule, others: Sequence[Path] = ()) -> Path:
    """Write ``report.html`` of a finished run, and return its path.

    Parameters
    ----------
    rule
        What its calls were made by.
    others
        Folders of runs to compare with.

    Raises
    ------
    BadTableError
        If a table is missing or damaged, or the run is not finished.
    """
    template = _environment().get_template("report.html.j2")
    compared = [_compared(folder, other) for other in others]
    write_text(folder.output(REPORT), template.render(_content(folder, rule), compared=compared))
    return folder.output(REPORT)


def write_again(folder: RunFolder, rule: CallRule, others: Sequence[Path] = ()) -> Path:
    """Write ``report.html`` of the run in a folder that no run holds, and note it in ``run.json``.

    `OutputExistsError` if that takes a file that no run made, and as `write_report`.
    """
    with folder.held():
        content = read_run_json(folder)
        tables = (RunFolder.of_run(other).output("contigs.tsv") for other in others)
        folder.refuse_loss((find(content["settings"]["model"]), *tables))
        page = write_report(folder, rule, others)
        write_run_json(folder, content | {"outputs": folder.output_sizes()})
    return page


def _content(folder: RunFolder, rule: CallRule) -> dict[str, Any]:
    """What the page shows of the run alone, by its name in the template."""
    run, digest = read_run_json(folder), Digest.read(folder.output("contigs.tsv"), rule)
    several = digest.samples
    listed = {
        "The most viral records": _rows(digest.highest),
        "The records nearest to the threshold": _rows(digest.nearest),
    }
    of_genes = run["modelset"].get("reading") == "genes"
    lengths = {row["row"]: row["length_nt"] for rows in listed.values() for row in rows}
    return {
        "run": run,
        "found": run["summary"],
        "inputs": [Path(name).name for name in run["inputs"]],
        "unit": "genes" if of_genes else "chunks",
        "digest": digest,
        "calls": _calls(run["summary"]["contigs"], digest),
        "lists": listed,
        "strips": strips(folder, lengths, rule.calibration, reads_genes=of_genes),
        "scatter": scatter(digest, rule),
        "called_from": called_from(digest, rule),
        "q_values": digest.q_values if rule.has_probability else {},
        # Of one alone, there is nothing to compare.
        "samples": dict(islice(several.items(), _SAMPLES_LISTED)) if len(several) > 1 else {},
        "fails": _where_it_fails(card_of(run["settings"]["model"])),
        "failed": _failed(folder.output("failed.tsv")),
    }


def _rows(contigs: pa.Table | None) -> list[dict[str, Any]]:
    rows = [] if contigs is None else contigs.to_pylist()
    return [row | {"record_id": row["record_id"][:_WIDEST]} for row in rows]


def _calls(told: Mapping[str, int], digest: Digest) -> dict[str, tuple[int, int]]:
    """Records and nt by call: of every call that there can be, and any other that there is."""
    names = [*_ORDER, *sorted({*told, *digest.calls} - {*_ORDER})]
    there = [name for name in names if name in told or name in digest.calls]
    return {name: (digest.calls[name], digest.nt[name]) for name in there}


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


def _compared(folder: RunFolder, other: Path) -> dict[str, Any]:
    """How the calls of another run of the same records differ, by its name in the template."""
    comparison = Comparison(folder, RunFolder.of_run(other))
    both = ((here, there) for here, there in comparison.differing() if here and there)
    changed = nlargest(_LISTED, both, key=lambda pair: abs(pair[0].value - pair[1].value))
    differing = [
        (here.record_id[:_WIDEST], here.call, there.call, here.value, there.value)
        for here, there in changed
    ]
    return {"folder": str(other), "crossed": comparison.calls, "differing": differing}


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
    environment.filters["percent"] = lambda share: _number(100 * share, ".1f") + "\u00a0%"
    environment.filters["sha256"] = _sha256
    return environment


def _sha256(script: str) -> str:
    """By which the page lets this script run, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _number(value: float | None, form: str = ".3f") -> str:
    """A number in this form; a dash where there is none."""
    return _NONE if value is None or value != value else format(value, form)
