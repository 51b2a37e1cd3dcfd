import logging

import pytest
from rich.console import Console

from virnuc_dask.cluster import log_setup
from virnuc_dask.cluster.log_setup import show_log


@pytest.fixture
def _logs_as_before():
    loggers = [log_setup.logger, *map(logging.getLogger, log_setup._DASKS)]
    before = [(each, each.handlers[:], each.propagate, each.level) for each in loggers]
    yield
    for each, handlers, propagate, level in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)
    logging.getLogger("distributed.nanny").filters.clear()


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("source", ["distributed.core", "distributed.client", *log_setup._DASKS])
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


@pytest.mark.usefixtures("_logs_as_before")
def test_that_a_worker_is_slow_to_end_is_told_to_those_who_want_all_only(capsys):
    nanny = logging.getLogger("distributed.nanny")
    show_log(Console(stderr=True), quiet=False, verbose=False)
    nanny.warning("Worker process still alive after 3.2 seconds, killing")
    nanny.warning("Restarting worker")
    assert capsys.readouterr().err == "Restarting worker\n"
    nanny.filters.clear()
    show_log(Console(stderr=True), quiet=False, verbose=True)
    nanny.warning("Worker process still alive after 3.2 seconds, killing")
    assert "still alive" in capsys.readouterr().err
