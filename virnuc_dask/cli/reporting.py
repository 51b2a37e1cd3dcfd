"""``report``: the page of a finished run, and how it compares with others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from virnuc_dask.cli.options import InputPath, OutputPath
from virnuc_dask.cli.terminal import say
from virnuc_dask.config import Settings
from virnuc_dask.errors import BadTableError
from virnuc_dask.modelsets.manifest import card_of, find, read_info
from virnuc_dask.outputs.report.page import write_report
from virnuc_dask.planning import call_rule
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan, read_run_json, write_run_json


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
    rule, model = _rule(out)
    others = [(other, _rule(other)[0]) for other in compare]
    read = (find(model), *(RunFolder.of_run(other).output("contigs.tsv") for other in compare))
    folder = RunFolder.of_run(out)
    with folder.held():
        folder.refuse_loss(read)
        page = write_report(folder, rule, card_of(model), others)
        write_run_json(folder, read_run_json(folder) | {"outputs": folder.output_sizes()})
    say(str(page))


def _rule(out: Path) -> tuple[CallRule, str]:
    """What a finished run's calls were made by, and its model set.

    `BadTableError` if there is no finished run.
    """
    folder = RunFolder(out)
    plan = read_plan(folder)
    run = read_run_json(folder) if plan is not None else {}
    if plan is None or not run.get("summary"):
        raise BadTableError(
            f"{out}: no finished run here; make one with `run`, or go on with `run --resume`."
        )
    model = run["settings"]["model"]
    settings = replace(Settings(), model=model, fdr=run["settings"]["fdr"])
    return call_rule(settings, read_info(find(model)), plan.decisions.chunk_length), model
