"""``report`` and ``compare``: the page of a finished run, and how two runs differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click

from virnuc_dask.cli.options import InputPath, OutputPath
from virnuc_dask.cli.terminal import say
from virnuc_dask.config import Settings
from virnuc_dask.errors import UsageError
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.outputs.comparison import CalledRecord, Comparison, why
from virnuc_dask.outputs.fields import fields
from virnuc_dask.outputs.report.page import write_again
from virnuc_dask.planning import call_rule
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_finished


@click.command("report")
@click.argument("out", type=OutputPath())
@click.option(
    "--compare",
    multiple=True,
    type=InputPath(),
    help="Another run of the same records, whose calls are set beside these; repeatable.",
)
def report_command(out: Path, compare: tuple[Path, ...]) -> None:
    """Write report.html of the finished run in OUT again."""
    if mine := [other for other in compare if other.resolve() == out.resolve()]:
        raise UsageError(f"{mine[0]}: is the run itself; name another one to --compare it with.")
    folder = RunFolder.of_run(out)
    plan, run = read_finished(folder)
    model, fdr = (run["settings"][name] for name in ("model", "fdr"))
    settings = replace(Settings(), model=model, fdr=fdr)
    rule = call_rule(settings, read_info(find(model)), plan.decisions.chunk_length)
    say(str(write_again(folder, rule, compare)))


_HEADER = (
    "record_id\tlength_nt\tcall_a\tcall_b\tscore_a\tscore_b\tprobability_a\tprobability_b\twhy"
)
_LINES = 1000  # printed at a time
_CHECKSUM = re.compile("[0-9a-f]{32,}")


@click.command("compare")
@click.argument("out_a", type=InputPath())
@click.argument("out_b", type=InputPath())
@click.option("--json", "as_json", is_flag=True, help="One object of counts, instead of the table.")
def compare_command(out_a: Path, out_b: Path, as_json: bool) -> None:
    """Print the records that the finished runs in OUT_A and OUT_B call otherwise, and why.

    A table on standard output, a summary on standard error. The exit code is 0 whatever differs.
    """
    comparison = Comparison(RunFolder.of_run(out_a), RunFolder.of_run(out_b))
    lines = _differing(comparison)
    while block := list(islice(lines, _LINES)):
        if not as_json:
            say("\n".join(block))
    found = _summary(comparison)
    if as_json:
        say(json.dumps(found, indent=2))
    else:
        say(_told(found), err=True)


def _differing(comparison: Comparison) -> Iterator[str]:
    """Lines of the table, its header first."""
    yield _HEADER
    for one, other in comparison.differing():
        known = one or other
        columns = zip(_shown(one), _shown(other), strict=True)
        name = (*fields([known.record_id]), str(known.length_nt)) if known else ()
        yield "\t".join([*name, *(text for pair in columns for text in pair), why(one, other)])


def _shown(called: CalledRecord | None) -> tuple[str, ...]:
    """Call, score and probability; empty where there is none."""
    if called is None:
        return "", "", ""
    values = (called.score, called.probability)
    return called.call, *("" if value is None else f"{value:.6f}" for value in values)


def _summary(comparison: Comparison) -> dict[str, Any]:
    calls = comparison.calls
    return {
        "a": str(comparison.one.path),
        "b": str(comparison.other.path),
        "records": calls.total(),
        "calls_differ": sum(count for (a, b), count in calls.items() if a != b),
        "values_differ": comparison.values_differ,
        "largest_change": round(comparison.largest_change, 6),
        "calls": [{"a": a, "b": b, "records": count} for (a, b), count in sorted(calls.items())],
        "causes": {name: {"a": a, "b": b} for name, (a, b) in comparison.causes.items()},
    }


def _told(found: dict[str, Any]) -> str:
    """The summary, for people."""
    changed = (each for each in found["calls"] if each["a"] != each["b"])
    causes = [_cause(name, pair["a"], pair["b"]) for name, pair in found["causes"].items()]
    return "\n".join(
        [
            f"{found['calls_differ']:,} of {found['records']:,} records are called otherwise",
            *(f"  a {each['a']}, b {each['b']}: {each['records']:,}" for each in changed),
            f"{found['values_differ']:,} have another score or probability, by "
            f"{found['largest_change']:g} at most",
            *(causes or ["the same input, model set, settings and threshold"]),
        ]
    )


def _cause(name: str, a: Any, b: Any) -> str:
    """What differs between two runs; of contents that they are others, not their checksums."""
    if all(value is None or _CHECKSUM.fullmatch(str(value)) for value in (a, b)):
        return f"{name}: not the same"
    return "{}: a {}; b {}".format(name, *("none" if v is None else v for v in (a, b)))
