"""What Prometheus is told, at /metrics of the scheduler and of each worker."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import prometheus_client
import pynvml
from prometheus_client.parser import text_string_to_metric_families

from virnuc_dask import run
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


def by_workers() -> dict[str, float]:
    """Sums over all workers, by name."""
    sums: dict[str, float] = {}
    for key, found in here().items():
        if "'worker'" in key:
            sums[key.split("[")[0]] = sums.get(key.split("[")[0], 0) + found
    return sums


def test_scheduler_and_workers_tell_of_a_run_and_what_workers_did_adds_up(
    client, run_that_stays, frames_modelset, tmp_path
):
    settings = load_settings(flags={"cluster.threads": 1})
    run(DEMO, tmp_path / "first", str(frames_modelset), settings=settings, client=client)
    assert not any("run_info" in name for name in here()), "it has ended"
    before = by_workers()
    summary, found, after = run_that_stays(DEMO), here(), by_workers()
    info = {"out": str(tmp_path / "out"), "modelset": "mini", "mode": "persistent"}
    assert value(found, "virnuc_run_info", **info) == 1
    for state, count in {"done": 1, "failed": 0, "in_work": 0, "waiting": 0}.items():
        assert value(found, "virnuc_partitions", state=state) == count
    for state, count in {"planned": 13, "done": 13, "failed": 0}.items():
        assert value(found, "virnuc_run_chunks", state=state) == count
    assert value(found, "virnuc_run_frames_total") == summary["frames"]
    assert value(found, "virnuc_run_viral_frames_total") > 0
    for name, more in (
        ("frames_total", summary["frames"]),
        ("worker_partitions_total", 1),
        ("modelset_loads_total", 2),
    ):
        assert after[f"virnuc_{name}"] - before[f"virnuc_{name}"] == more
    assert after["virnuc_modelset_bytes"] == 0, "they were given back"
    assert after["virnuc_stage_seconds_total"] > before["virnuc_stage_seconds_total"] > 0
    assert value(found, "virnuc_memory_bytes", worker="0", of="process") > 1e8


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
