"""What Prometheus is told, at /metrics of the scheduler and of each worker."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import prometheus_client
import pynvml
import pytest
from distributed import Client
from prometheus_client.parser import text_string_to_metric_families

from virnuc_dask import run
from virnuc_dask.cluster import gpus
from virnuc_dask.cluster.dashboard import worker_metrics
from virnuc_dask.config import load_settings
from virnuc_dask.stages.receipt import Failure, Receipt

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests/data/demo.fasta.gz"
PAGE = ROOT / "docs/pages/howto/monitoring.md"
GRAFANA = ROOT / "docs/pages/howto/virnuc-grafana.json"
GPU = "NVIDIA H200 01234567-89ab"


def scraped(text: str) -> dict[str, float]:
    """Values by name and labels, of metrics of this program; each has a text that explains it."""
    families = [f for f in text_string_to_metric_families(text) if f.name.startswith("virnuc_")]
    assert all(family.documentation for family in families)
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
    }


def here() -> dict[str, float]:
    return scraped(prometheus_client.generate_latest().decode())


def value(samples: dict[str, float], name: str, **labels: str) -> float:
    """The one sample of that name that has these labels, among others."""
    wanted = [str(item) for item in labels.items()]
    (found,) = (
        sample
        for key, sample in samples.items()
        if key.split("[")[0] == name and all(each in key for each in wanted)
    )
    return found


def get(link: str) -> str:
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(link, timeout=30) as answer:
        return answer.read().decode()
    return ""


@pytest.fixture
def apart(tmp_path) -> Iterator[Path]:
    """The file of a scheduler that no run started; it has one worker."""
    file = tmp_path / "scheduler.json"
    at = ("--scheduler-file", str(file), "--host", "127.0.0.1")
    at += ("--dashboard-address", "127.0.0.1:0")
    place = ("--local-directory", str(tmp_path))
    processes = [
        subprocess.Popen([sys.executable, "-m", "dask", *options, *at], stderr=subprocess.DEVNULL)
        for options in (
            ("scheduler", "--port", "0"),
            ("worker", "--name", "one", "--no-nanny", "--nthreads", "1", *place),
        )
    ]
    yield file
    for process in processes:
        process.kill()
        process.wait()


def eventually(holds: Callable[[], Any], timeout_s: float = 90) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_scheduler_apart_tells_of_the_run_and_its_worker_of_what_it_did(apart, tmp_path):
    eventually(apart.exists)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "virnuc_dask", "run", str(DEMO), "-o", str(out)]
    with Client(scheduler_file=str(apart)) as client:
        metrics = urljoin(client.dashboard_link, "metrics")
        client.wait_for_workers(1, timeout=90)
        with subprocess.Popen([*command, "--scheduler-file", str(apart)]) as process:
            during = eventually(lambda: scraped(get(metrics)))
            assert '<a href="virnuc">' in eventually(lambda: get(urljoin(metrics, "virnuc")))
        assert process.returncode == 0
        after, page = scraped(get(metrics)), get(urljoin(metrics, "virnuc"))
        (worker,) = client.scheduler_info()["workers"].values()
        port = worker["services"]["dashboard"]
        did = scraped(get(f"http://127.0.0.1:{port}/metrics"))
    states = [value(during, "virnuc_partitions", state=s) for s in ("done", "in_work", "waiting")]
    assert sum(states) == 1
    assert value(during, "virnuc_run_info", out=str(out), modelset="mini", mode="persistent") == 1
    assert value(during, "virnuc_run_chunks", state="planned") == 13
    assert page == ""
    assert not any("run_info" in name for name in after)
    summary = json.loads((out / "run.json").read_text())["summary"]
    assert value(did, "virnuc_frames_total", worker="one") == summary["frames"]
    assert value(did, "virnuc_viral_frames_total", worker="one") > 0
    assert value(did, "virnuc_worker_partitions_total", worker="one") == 1
    assert value(did, "virnuc_modelset_loads_total", worker="one") == 1
    assert value(did, "virnuc_modelset_bytes", worker="one") == 0, "it was given back"
    assert value(did, "virnuc_memory_bytes", of="process") > 1e8
    assert value(did, "virnuc_stage_seconds_total", stage="peptide") > 0


def test_two_runs_in_one_process_add_up(client, frames_modelset, tmp_path):
    settings = load_settings(flags={"cluster.threads": 1})

    def frames() -> float:
        return sum(v for name, v in here().items() if name.startswith("virnuc_frames_total"))

    before, summaries = frames(), []
    for out in ("first", "second"):
        done = run(DEMO, tmp_path / out, str(frames_modelset), settings=settings, client=client)
        summaries.append(done.summary["frames"])
    assert frames() - before == sum(summaries) > 0


def test_what_failed_and_what_a_gpu_does_is_told(monkeypatch):
    receipt = Receipt(0, 5, 30, 0, 0, device_idle_s=2.5, failures=(Failure(0, "", (5, 8)),))
    worker_metrics.count_receipt("failing", receipt)
    assert value(here(), "virnuc_failed_chunks_total", worker="failing") == 3
    assert value(here(), "virnuc_device_idle_seconds_total", worker="failing") == 2.5
    loaded = {"event": "modelset_loaded", "elapsed_s": 1.5, "weight_bytes": 7, "device": GPU}
    monkeypatch.setattr("virnuc_dask.modelsets.modelset.memory_bytes", lambda device: 11)
    worker_metrics.count_event("on-gpu", loaded)
    worker_metrics.count_event("on-gpu", {"event": "cache_cleared"})
    asked = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", asked.append)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", lambda gpu, sensor: 61)
    rates = SimpleNamespace(gpu=87)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda gpu: rates)
    samples = here()
    assert value(samples, "virnuc_gpu_temperature_celsius", worker="on-gpu") == 61
    assert value(samples, "virnuc_gpu_utilization_ratio", worker="on-gpu") == 0.87
    assert value(samples, "virnuc_memory_bytes", worker="on-gpu", of="gpu") == 11
    assert value(samples, "virnuc_cache_clears_total", worker="on-gpu") == 1
    assert value(samples, "virnuc_modelset_load_seconds_total", worker="on-gpu") == 1.5
    assert set(asked) == {"GPU-01234567-89ab"}
    (metric,) = worker_metrics.gpu_metrics(loaded).values()
    assert metric(None) == 61
    assert worker_metrics.gpu_metrics({**loaded, "device": "cpu"}) == {}


def test_a_gpu_that_tells_nothing_is_none(monkeypatch):
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert gpus.gpu_celsius(GPU) is gpus.gpu_use(GPU) is None
    monkeypatch.setattr("virnuc_dask.modelsets.modelset.memory_bytes", lambda device: 11)
    loaded = {"event": "modelset_loaded", "elapsed_s": 1, "weight_bytes": 7, "device": GPU}
    worker_metrics.count_event("silent", loaded)
    celsius = value(here(), "virnuc_gpu_temperature_celsius", worker="silent")
    assert celsius != celsius, "not a number"


def names() -> set[str]:
    """Every name that an expression can ask for."""
    text = prometheus_client.generate_latest().decode()
    kinds = re.findall(r"^# TYPE (virnuc_\w+) (?:counter|gauge)$", text, re.MULTILINE)
    return {name for name in kinds if not name.endswith("_created")}


def test_the_page_names_every_metric_and_no_other():
    rows = re.findall(r"^\| `(virnuc_\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(names())


def test_the_grafana_dashboard_asks_for_metrics_that_exist():
    panels = json.loads(GRAFANA.read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    found = {name for each in asked for name in re.findall(r"\bvirnuc_\w+", each)}
    assert len(asked) > 10
    assert found - names() == set()
