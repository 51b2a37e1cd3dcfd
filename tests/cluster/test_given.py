import json

import dask
import pytest

from virnuc_dask.cluster import given
from virnuc_dask.cluster.connect import connect, refuse_impossible
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import NoClusterError

EMPTY_PORT = "tcp://127.0.0.1:9"


def hurried(**settings) -> ClusterSettings:
    return ClusterSettings(scheduler_timeout_s=0.5, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (hurried(scheduler_file="/no/such.json"), "/no/such.json: no such scheduler file"),
        (
            hurried(scheduler=EMPTY_PORT),
            rf"answers at {EMPTY_PORT} \(--scheduler, or .* after 0.5 s",
        ),
        (hurried(scheduler="nonsense://x"), "no scheduler answers at nonsense://x"),
    ],
)
def test_a_scheduler_that_is_not_there_is_named(settings, message):
    with pytest.raises(NoClusterError, match=message), connect(settings, weight_bytes=0):
        pass


def test_an_address_of_dasks_own_is_told_with_the_place_it_comes_from(monkeypatch):
    with dask.config.set({"scheduler-address": EMPTY_PORT}):
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", EMPTY_PORT)
        with pytest.raises(NoClusterError, match="DASK_SCHEDULER_ADDRESS"), connect(hurried(), 0):
            pass
        monkeypatch.delenv("DASK_SCHEDULER_ADDRESS")
        with pytest.raises(NoClusterError, match="Dask's configuration"), connect(hurried(), 0):
            pass
    with dask.config.set({"scheduler-address": ""}):
        refuse_impossible(ClusterSettings(device="cpu"))


@pytest.mark.parametrize("content", ["", '{"type": "Sched', "[]", '{"id": 1}', '{"address": ""}'])
def test_a_scheduler_file_that_names_no_scheduler_is_refused_early(tmp_path, monkeypatch, content):
    monkeypatch.setattr(given, "_FILE_S", 0)
    file = tmp_path / "scheduler.json"
    file.write_text(content)
    with pytest.raises(NoClusterError, match=r"scheduler\.json: names no scheduler"):
        refuse_impossible(ClusterSettings(scheduler_file=str(file)))


def test_a_scheduler_file_is_awaited_while_it_is_written(tmp_path, monkeypatch):
    whole = json.dumps({"address": EMPTY_PORT})
    parts = [whole[:9], whole]
    file = tmp_path / "scheduler.json"
    file.touch()
    monkeypatch.setattr(given.time, "sleep", lambda _: file.write_text(parts.pop(0)))
    assert given.address_in(file) == EMPTY_PORT
    assert not parts
