"""``doctor``: whether a run can compute here, and what to do if not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from virnuc_dask.cli.options import (
    OutputPath,
    computing_options,
    model_option,
    precision_option,
    prepare,
)
from virnuc_dask.cli.terminal import say
from virnuc_dask.doctor.checks import GREEN, RED, Finding
from virnuc_dask.doctor.examination import examine

_MOST_NAMES = 2  # that stand in a heading


@click.command("doctor")
@click.option("-o", "--out", type=OutputPath(), default=".", help="Run folder; default: this one.")
@click.option("--json", "as_json", is_flag=True, help="For programs, with all that was found.")
@precision_option("Of the encoders, whose memory is looked at; auto: the fastest (default).")
@model_option
@computing_options
def doctor_command(out: Path, as_json: bool, **options: Any) -> None:
    """Look whether a run can compute here: this machine, the cluster, every worker, the disks.

    Green works, yellow works with less than there could be, red does not; each with the next step.
    Workers are started as a run starts them, and end. The exit code is 1 if anything is red.
    """
    settings, quiet = prepare(options)["settings"], options["quiet"]
    found = examine(settings, out, lambda line: None if quiet else say(line, err=True))
    if as_json:
        say(json.dumps(found.as_json(), indent=2))
    else:
        _show(found.findings)
    if found.level == RED:
        sys.exit(1)


def _show(findings: Iterable[Finding]) -> None:
    """Print findings by place; what is the same in several places, once."""
    alike: dict[object, list[Finding]] = {}
    for each in findings:
        is_worker = each.where.startswith("worker ")
        same = (each.topic, each.level, "" if each.level == GREEN else each.text)
        alike.setdefault((is_worker or each.where, *same), []).append(each)
    title = ""
    for group in alike.values():
        names, first = [each.where for each in group], group[0]
        place = f"{len(names)} workers" if len(names) > _MOST_NAMES else ", ".join(names)
        if place != title:
            say(place)
        title = place
        others = "" if all(each.text == first.text for each in group) else "; others alike"
        say(f"{first.topic:<14}{first.text}{others}", level=first.level)
        if first.next_step:
            say(f"{'':<24}→ {first.next_step}")
