"""Dask's performance report of a run, in one file that needs no network to be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed import Client, performance_report

from virnuc_dask.cluster.journal import Journal
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadOutputError, CannotWriteError, OutputExistsError, UsageError
from virnuc_dask.tables.parquet import write_text
from virnuc_dask.tables.paths import writing

_TITLE = b"<title>Dask Performance Report</title>"
_ICON = re.compile(r'<link rel="shortcut icon"[^>]*>')  # the one thing that is fetched
_TO_CALLER = 4  # frames to the code that the report shows: what uses `reporting`
_HEAD = 1 << 16  # bytes in which the title stands


def refuse_report(file: Path, settings: ClusterSettings, out: Path) -> None:
    """Find out early whether a report can be made, and its file may be written.

    Parameters
    ----------
    out
        The run folder; the report may lie in it, under another name than its own files have.

    Raises
    ------
    UsageError
        If there are no workers to report on.
    BadOutputError, OutputExistsError
        If the file cannot be written, or is anything but such a report.
    """
    if settings.kind == "none":
        raise UsageError(
            "--performance-report: is Dask's report on its workers, and --cluster none has none. "
            "Leave out one of the two; seconds by stage are in run.json."
        )
    if file.suffix != ".html":
        raise BadOutputError(f"{file}: the report is a page; choose a name that ends in .html.")
    with writing(file):
        if file.resolve() == (out / "report.html").resolve():
            raise BadOutputError(f"{file}: is the run's own page; choose another name.")
        if file.parent.resolve() != out.resolve():
            file.parent.stat()
        if file.is_dir():
            raise OutputExistsError(f"{file}: is a folder; choose another name.")
        if file.exists() and not _is_report(file):
            raise OutputExistsError(f"{file}: is no performance report; choose another name.")


@contextmanager
def reporting(client: Client | None, file: Path | None, journal: Journal) -> Iterator[None]:
    """Write Dask's report of what its workers do inside into ``file``, also if that fails.

    A report that cannot be had fails no run; a warning tells why.
    """
    if client is None or file is None:
        yield
        return
    with TemporaryDirectory() as place, client.as_current():
        made = Path(place) / "report.html"
        report = performance_report(str(made), _TO_CALLER, mode="inline")
        report.__enter__()
        try:
            yield
        finally:
            _write(report, made, file, journal)


def _write(report: performance_report, made: Path, file: Path, journal: Journal) -> None:
    try:
        report.__exit__(None, None, None)
        text = made.read_text(encoding="utf-8")
        write_text(file.absolute(), _ICON.sub("", text))
    except (OSError, ImportError, CannotWriteError, RuntimeError) as error:
        # RuntimeError: of bokeh, whose state an error on any page of a scheduler spoils.
        message = f"{file}: no performance report could be made: {error}"
        journal.write({"event": "warning", "message": message})
    else:
        journal.write({"event": "note", "message": f"performance report: {file}"})


def _is_report(file: Path) -> bool:
    with file.open("rb") as stream:
        return _TITLE in stream.read(_HEAD)
