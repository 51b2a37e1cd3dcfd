"""What a person watches: a run's page on the dashboard of any scheduler."""

import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from bokeh.client import pull_session
from dask.delayed import delayed
from distributed import Client, LocalCluster

from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.dashboard.history import OTHERS, RunHistory, Timeline
from virnuc_dask.cluster.dashboard.monitor import RunMonitor, watched
from virnuc_dask.cluster.dashboard.page import PARTS
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.config import ClusterSettings

DEMO = Path(__file__).parents[1] / "data/demo.fasta.gz"
PLANNED = {
    "event": "planned",
    "modelset": "mini",
    "precision": "fp32",
    "mode": "persistent",
    "parts": "chunks",
    "scored": "frames",
    "records": 1,
    "chunk_length": 500,
    "partitions": 10,
    "partitions_done": 2,
    "chunks": 100,
    "chunks_done": 20,
}
LOADED = {
    "event": "modelset_loaded",
    "worker": "0",
    "device": "cpu",
    "residency": "both encoders in memory",
    "loads": 1,
    "weight_bytes": 5_000_000,
}
DONE = {
    "event": "partition_done",
    "partition": 3,
    "worker": "0",
    "chunks": 10,
    "frames": 60,
    "viral": 15,
    "elapsed_s": {"predict": 0.1},
    "total_s": 5.0,
    "device_idle_s": 0.5,
    "memory_after_bytes": 1,
}
FAILED = {"event": "partition_failed", "partition": 4, "chunks": 1, "reason": "poison"}


def begun(inputs: str) -> dict[str, str]:
    return {"event": "run_started", "inputs": inputs, "out": "out"}


@pytest.fixture
def journal(tmp_path) -> Iterator[Journal]:
    """Of a run that is planned."""
    with Journal.opened(tmp_path / "run.log.jsonl") as opened:
        opened.write(begun("first"))
        opened.write(PLANNED)
        yield opened


def connection(client: Client) -> Connection:
    return Connection(client, "given", ClusterSettings())


def get(link: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(link, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def events_on(client: Client) -> dict[str, list[tuple[float, str, str]]]:
    """The events that a scheduler has, by the inputs of its runs."""
    return client.run_on_scheduler(_events)


def _events(dask_scheduler: Any = None) -> dict[str, list[tuple[float, str, str]]]:
    plugins = dask_scheduler.plugins.values()
    states = [each.state for each in plugins if isinstance(each, RunMonitor)]
    return {state.last["run_started"]["inputs"]: list(state.events) for state in states}


# Counts and rates


def test_amounts_are_spread_over_the_time_in_which_they_were_made():
    line = Timeline()
    line.add("0", 2, 6, 40)
    line.add("1", 0, 10, 10)
    times, rates = line.rates(until_s=10)
    assert list(times[:2]) == [0.5, 1.5]
    assert list(rates["0"]) == [0, 0, 10, 10, 10, 10, 0, 0, 0, 0]


def test_a_long_run_of_many_workers_takes_no_more_memory():
    line = Timeline()
    for n in range(1000):
        line.add(str(n), 100 * n, 100 * n + 50, 7)
    times, rates = line.rates(until_s=1e9)
    assert len(times) == 240
    assert len(rates) <= 65
    assert OTHERS in rates
    assert sum(rate.sum() for rate in rates.values()) * line.width_s == pytest.approx(7000)


@pytest.fixture
def state() -> RunHistory:
    """Of a run that is planned, and begins to compute at 1000."""
    state = RunHistory("run", 1000.0, in_work=lambda worker=None: 1)
    for event in (begun("<b>a.fasta</b>"), PLANNED):
        state.take(event, 1000.0)
    return state


def test_a_run_is_counted_and_its_end_estimated(state):
    state.take(LOADED, 1000.0, "model set mini loaded")
    assert state.left_s(1001.0) is state.viral_share is None
    for n in range(6):
        state.take({**DONE, "partition": 3 + n}, 1010.0 + 5 * n)
    assert (state.partitions, state.chunks, state.frames) == (8, 80, 360)
    assert state.viral_share == 0.25
    assert state.pace.rates(1030.0) == pytest.approx((2, 12))
    assert state.left_s(1030.0) == pytest.approx(10)
    told = state.told("0")
    assert (told.loads, told.idle_s, told.pace.rates(1030.0)[1]) == (1, 3, 12)


def test_a_table_that_was_there_is_not_judged(state):
    state.take({**DONE, "elapsed_s": {}, "viral": 0}, 1001.0)
    assert (state.frames, state.viral_share) == (60, None)


def test_what_fails_is_counted_once_a_partition_and_told(state):
    state.take(FAILED, 1001.0, "partition 4: 1 chunks failed")
    state.take(FAILED, 1002.0, "partition 4: 1 chunks failed")
    state.take({**DONE, "partition": 4, "chunks": 8}, 1003.0)
    assert (state.partitions_failed, state.chunks_failed, state.partitions) == (1, 2, 2)
    assert [what for _, what, _ in state.events] == ["halved", "failed", "failed"]
    assert state.events[0][2] == (
        "partition 4: halved until what failed stood alone; 8 chunks of it are done"
    )
    for n in range(1000):
        state.take({"event": "warning"}, n, f"line {n}")
    assert len(state.events) == 200
    assert state.events[0] == (999, "warning", "line 999"), "the newest first"


# The page


def test_a_given_scheduler_shows_a_run_while_it_lasts(client, journal):
    status = client.dashboard_link
    with watched(connection(client), journal) as seen:
        assert seen.dashboard == status.removesuffix("status") + "virnuc"
        assert f"dashboard {seen.dashboard}" in str(seen)
        code, page = get(seen.dashboard)
        assert code == 200
        assert '<a href="virnuc">' in page
        assert '<a href="virnuc">' in get(status)[1]
    assert get(seen.dashboard)[0] == 404
    assert '<a href="virnuc">' not in get(status)[1]
    assert events_on(client) == {}


def kinds_kept(dask_scheduler: Any = None) -> int:
    """Kinds of collections that a scheduler keeps of all that was ever submitted."""
    spans = dask_scheduler.extensions["spans"].spans.values()
    return sum(len(span.metadata["collections"]) for span in spans if span.metadata)


def test_a_scheduler_keeps_nothing_of_each_partition(client, journal):
    with watched(connection(client), journal) as shown:
        for index in range(30):
            key = f"extract-{index}-virnuc-models-{shown.topic}"
            assert client.compute(delayed(int)(index, dask_key_name=key)).result() == index
        assert client.run_on_scheduler(kinds_kept) < 30


def test_a_second_run_shows_itself_and_the_first_again_after_it(
    client, journal, tmp_path, eventually
):
    first, second = connection(client), connection(client)
    with watched(first, journal) as seen, Journal.opened(tmp_path / "other.jsonl") as other:
        other.write(begun("second"))
        with watched(second, other):
            assert list(events_on(client)) == ["first", "second"]
            other.write({"event": "warning", "message": "of the second"})
            eventually(lambda: events_on(client)["second"])
        assert get(seen.dashboard)[0] == 200
        assert events_on(client) == {"first": []}


def test_a_run_whose_client_is_gone_leaves_nothing(client, eventually):
    link = client.dashboard_link.replace("status", "virnuc")
    with Client(client.cluster) as other:
        other.register_plugin(RunMonitor([PLANNED], "virnuc-1", other.id))
        assert get(link)[0] == 200
    eventually(lambda: events_on(client) == {})
    assert get(link)[0] == 404


def test_a_scheduler_without_a_dashboard_is_one_line_of_the_log(journal, eventually):
    with (
        LocalCluster(
            n_workers=0,
            processes=False,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
        watched(connection(client), journal) as seen,
    ):
        assert seen.page == "status"
        journal.write({"event": "warning", "message": "it goes on"})
        eventually(lambda: events_on(client)["first"])
    told = journal.state.last["note"]["message"]
    assert "The dashboard has no page of this run: the scheduler was started without" in told


def test_a_page_that_cannot_be_built_is_one_line_of_the_log(client, journal, monkeypatch):
    monkeypatch.setattr("virnuc_dask.cluster.dashboard.page.BokehApplication", None)
    with watched(connection(client), journal) as seen:
        assert seen.dashboard.endswith("/status")
    assert "TypeError" in journal.state.last["note"]["message"]


def test_the_link_follows_the_proxy(client, journal):
    hub = {"distributed.dashboard.link": "https://hub/user/me/proxy/{port}/status"}
    with dask.config.set(hub), watched(connection(client), journal) as seen:
        assert re.fullmatch(r"https://hub/user/me/proxy/\d+/virnuc", seen.dashboard)


def test_names_are_escaped_and_a_run_that_ended_says_so(state):
    shown = str(PARTS.head(state, 1, 1061.0))
    assert "&lt;b&gt;a.fasta&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert "2 of 10" in shown
    assert "0:01:01" in shown
    assert "1 more run" in shown
    assert "the model set loads" in shown
    state.ended = 1062.0
    assert "ended at 00:17:42 UTC" in str(PARTS.head(state, 0, 1062.0))
    state.tell(3.0, "warning", "<b>")
    assert '<td class="wide">&lt;b&gt;</tr>' in str(PARTS.events(state))


def test_a_row_of_a_gpu_worker_tells_what_the_driver_does(state):
    state.take({**LOADED, "device": "NVIDIA H200 0123"}, 1001.0)
    state.take(DONE, 1005.0)
    metrics = {
        "cpu": 3.4,
        "memory": 10**9,
        "gpu_utilization": 87,
        "gpu_memory_used": 5 * 10**9,
        "gpu_celsius": 61.0,
    }
    shown = str(PARTS.workers(state, [SimpleNamespace(name=0, metrics=metrics)], True, 1005.0))
    cells = [re.sub(r"(?s).*>", "", cell).strip() for cell in re.split(r"<td", shown)[1:-1]]
    assert cells[:7] == ["0", "NVIDIA H200 0123", "87 %", "15", "1", "1", "1,000 MB"]
    assert cells[7:] == ["5,000 MB", "0.5 s", "61.0", "5 MB", "1"]
    assert "persistent, both encoders in memory" in shown


def shown(link: str) -> str:
    """What a browser is sent: texts and the charts' titles."""
    session = pull_session(url=link)
    try:
        return " ".join(str(getattr(model, "text", "")) for model in session.document.models)
    finally:
        session.close()


def test_a_page_shows_what_a_real_run_did(client, run_that_stays, tmp_path):
    demo = tmp_path / "<video>.fasta.gz"
    shutil.copy(DEMO, demo)
    run_that_stays(demo)
    found = shown(client.dashboard_link.replace("status", "virnuc"))
    assert "<video>" not in found
    for each in (
        "&lt;video&gt;.fasta.gz → ",
        "model set mini in fp32",
        "persistent, both encoders in memory",
        "model set mini loaded on worker",
        "genes or frames a second",
        "1 of 1",
    ):
        assert each in found
