"""A cluster that the tests of a file share, and a run whose traces stay on it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from virnuc_dask.cluster.dashboard.monitor import RunMonitor
from virnuc_dask.cluster.dashboard.run_metrics import SHOWN
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.config import load_settings
from virnuc_dask.run import run


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers in this process, and a dashboard at the address that its link names."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty one."""
    with Journal.opened(tmp_path / "log") as journal:
        yield journal


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until something is true, and returns it."""

    def wait(holds: Callable[[], Any], timeout_s: float = 60) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := holds()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return found

    return wait


def _leave(dask_scheduler: Any = None) -> None:
    plugins = list(dask_scheduler.plugins.values())
    for plugin in [each for each in plugins if isinstance(each, RunMonitor)]:
        plugin.leave()


@pytest.fixture
def run_that_stays(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Runs a file; what the scheduler shows of it stays as long as the test. Its summary."""

    def call(file: Path) -> dict[str, Any]:
        monkeypatch.setattr(RunMonitor, "leave", lambda _: None)
        settings = load_settings(flags={"cluster.threads": 1})
        done = run(file, tmp_path / "out", client=client, settings=settings)
        eventually(lambda: SHOWN[-1].phase == "writing results")  # the last event is there
        return done.summary

    yield call
    monkeypatch.undo()
    client.run_on_scheduler(_leave)
