import io
import logging

import pytest
from rich.console import Console

from virnuc_dask.cluster import monitor
from virnuc_dask.cluster.monitor import ProgressBar, show_log
from virnuc_dask.modelsets.manifest import Units


@pytest.fixture
def _logs_as_before():
    loggers = [monitor.logger, *map(logging.getLogger, monitor._DASKS)]
    before = [(each, each.handlers[:], each.propagate, each.level) for each in loggers]
    yield
    for each, handlers, propagate, level in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("source", ["distributed.core", "distributed.client", *monitor._DASKS])
@pytest.mark.parametrize("verbose", [False, True])
def test_what_breaks_off_inside_dask_is_told_without_its_traceback(capsys, source, verbose):
    show_log(Console(stderr=True), quiet=False, verbose=verbose)
    try:
        raise OSError("Stream is closed")
    except OSError:
        logging.getLogger(source).exception("Exception while handling op %s", "register")
    err = capsys.readouterr().err
    assert ("Traceback" in err) == verbose
    assert "Exception while handling op register\n" in err
    assert err.endswith("OSError: Stream is closed\n")


@pytest.mark.parametrize("units", [Units(), Units("pieces", "genes")])
def test_the_progress_bar_counts_what_the_model_set_reads(units):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ProgressBar(console, 9, 4, units) as bar:
        bar.advance(3, 50)
        bar._progress.refresh()
    drawn = console.file.getvalue()
    assert "7/9" in drawn
    assert f" {units.parts} · " in drawn
    assert f" {units.scored}/s · " in drawn
