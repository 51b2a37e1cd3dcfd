"""``doctor`` finds what keeps a run from computing, and says what to do next."""

import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from virnuc_dask.cluster import sight
from virnuc_dask.cluster.machine import Gpu, Machine
from virnuc_dask.doctor import checks, examination
from virnuc_dask.doctor.checks import HERE, Disk, Need, worst
from virnuc_dask.encoders.processor import AVX2, PLAIN, Processor

GB = 10**9
PLAIN_MACHINE = Machine(
    host="node1",
    versions={"virnuc-dask": version("virnuc-dask"), "torch": "2.11", "dask-cuda": "26.10"},
    cpu="CPU",
    processor=Processor(AVX2, multiplies_bf16=False),
    cores=4,
    memory_bytes=64 * GB,
    free_bytes=60 * GB,
    open_files=65_536,
)
GPU_MACHINE = replace(
    PLAIN_MACHINE,
    gpus=(Gpu("H200", 141 * GB, 140 * GB),),
    driver="570.1",
    driver_cuda="12.8",
    torch_cuda="12.6",
)


@pytest.fixture
def doctor(command, monkeypatch, tmp_path):
    """The findings of a call on a machine that has what is given, and its exit code."""

    def call(machine: Machine, *options: object) -> tuple[int, dict[str, dict]]:
        monkeypatch.setattr(examination, "this_machine", lambda: machine)
        code, out, err = command("doctor", "--out", tmp_path, "--json", *options)
        assert "Traceback" not in err
        found = json.loads(out)
        assert (found["level"] == "red") == (code == 1)
        assert set(found["machines"]) >= {HERE}
        return code, {each["topic"]: each for each in found["findings"] if each["where"] == HERE}

    return call


RED_ONES = [
    (GPU_MACHINE, {"versions": {}}, "GPUs", "dask-cuda is missing: install virnuc-dask[gpu-cu12]"),
    (GPU_MACHINE, {"torch_cuda": "13.0"}, "GPUs", "CUDA 13.0 is newer than the driver"),
    (GPU_MACHINE, {"torch_cuda": None}, "GPUs", "This torch is for CPUs: install CUDA's"),
    (PLAIN_MACHINE, {"memory_bytes": GB // 2}, "memory", "Too little for mini: ask for more"),
]


@pytest.mark.parametrize(("machine", "changed", "topic", "step"), RED_ONES)
def test_what_keeps_a_run_from_computing_here_is_red_and_no_worker_is_started(
    doctor, machine, changed, topic, step
):
    code, found = doctor(replace(machine, **changed))
    assert (code, found[topic]["level"]) == (1, "red")
    assert step in found[topic]["next_step"]
    assert found["workers"]["text"].startswith("not asked")
    assert "cluster" not in found


def test_a_gpu_that_is_asked_for_and_not_there_is_red(doctor):
    machine = replace(PLAIN_MACHINE, no_gpu="no NVIDIA driver")
    code, found = doctor(machine, "--cluster", "cuda")
    assert (code, found["GPUs"]["text"]) == (1, "none: no NVIDIA driver")


def test_a_model_set_or_a_folder_that_cannot_be_used_is_red(doctor, monkeypatch):
    def full(_: Path) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(examination, "_write_speed", full)
    code, found = doctor(PLAIN_MACHINE, "--cluster", "none", "--model", "maxi")
    assert (code, found["model set"]["level"]) == (1, "red")
    assert "models import" in found["model set"]["next_step"]
    assert "cannot be written: No space left" in found["run folder"]["text"]


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, "green"),
        ({"torch_cuda": "12.9"}, "yellow"),  # of the same major version
        ({"gpus": (Gpu("small", 8 * GB, 7 * GB),)}, "yellow"),
        ({"gpus": (Gpu("used", 80 * GB, 4 * GB),)}, "red"),
    ],
)
def test_what_driver_torch_and_memory_of_gpus_are_worth(changed, level):
    need = Need("auto", "large", (GB // 2, 7 * GB - 1), by_dask_cuda=True)
    assert worst(checks.check_gpus(replace(GPU_MACHINE, **changed), need, HERE)) == level


SLOW = {"processor": Processor(PLAIN, multiplies_bf16=False)}


@pytest.mark.parametrize(
    ("changed", "workers", "topic", "level"),
    [
        ({}, 4, "memory", "green"),
        ({}, 5, "memory", "yellow"),
        ({"free_bytes": GB}, 1, "memory", "yellow"),
        ({"open_files": 1000}, 1, "open files", "yellow"),
        ({"open_files": 100}, 1, "open files", "red"),
        (SLOW, 1, "processor", "yellow"),
    ],
)
def test_limits_of_a_machine_are_told_before_they_are_met(changed, workers, topic, level):
    need = Need("auto", "large", (0, 10 * GB))
    findings = checks.check_machine(replace(PLAIN_MACHINE, **changed), need, HERE, workers)
    (found,) = (each for each in findings if each.topic == topic)
    assert found.level == level, found
    assert bool(found.next_step) == (level != "green")


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (checks.check_disk(Disk("out", "nfs4", 10**12, 1e6), "run folder"), "yellow"),
        (checks.check_disk(Disk("out", "nfs4", GB, 1e9), "run folder"), "yellow"),
        (checks.check_disk(Disk("out", "nfs4", 1, 1e9), "run folder"), "red"),
        (checks.check_clock(-1.5, HERE), "green"),
        (checks.check_clock(90, HERE), "yellow"),
        (checks.check_dashboard("http://x", "refused"), "yellow"),
        (checks.check_files(OSError("gone"), "worker 0"), "red"),
    ],
)
def test_limits_of_a_cluster_are_told_before_they_are_met(found, level):
    assert (found.level, bool(found.next_step)) == (level, level != "green")


@pytest.fixture(scope="module")
def address():
    """Of a cluster of two workers in this process."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        yield cluster.scheduler_address


@pytest.fixture
def asked(command, address, tmp_path, monkeypatch) -> Callable[..., tuple[int, str]]:
    """The exit code and what is told of that cluster."""
    monkeypatch.setattr(sight, "_PATIENCE_S", 0)

    def call(*options: object) -> tuple[int, str]:
        way = ("--out", tmp_path / "not" / "yet", "--scheduler", address, "--quiet")
        code, out, _ = command("doctor", *way, *options)
        assert list(tmp_path.iterdir()) == []
        return code, out

    return call


def test_workers_that_are_fit_are_green_and_told_together(asked):
    code, out = asked()
    assert code == 0, out
    (heading,) = (line for line in out.splitlines() if line.startswith("worker "))
    assert "worker 0 (inproc://" in heading
    assert "worker 1 (inproc://" in heading
    assert "  green   shared files  as here\n" in out
    assert "  green   packages      as here\n" in out
    assert "/status answers\n" in out


def test_another_version_on_a_worker_is_red_and_the_worker_named(asked, monkeypatch):
    def found(name: str, dask_worker: object = None) -> str:
        return "0.0.9" if str(getattr(dask_worker, "name", "")) == "1" else version(name)

    monkeypatch.setattr(examination, "version", found)
    code, out = asked()
    assert code == 1
    told = out.split("worker 1 ")[1]
    assert "  red     virnuc_dask   0.0.9\n" in told
    assert f"→ Here it is {version('virnuc-dask')}. Install virnuc_dask" in told


def test_a_run_folder_that_a_worker_does_not_see_is_red_and_the_worker_named(
    asked, monkeypatch, tmp_path
):
    seen = iter([False])
    monkeypatch.setattr(sight.Sight, "_is_read", lambda _: next(seen, True))
    code, out = asked()
    assert code == 1
    (line,) = (line for line in out.splitlines() if "  red " in line)
    assert f"shared files  does not see the run folder {tmp_path}: another folder is there" in line
    assert "→ Choose one that every machine has under the same path (--out)" in out


def test_a_worker_whose_clock_or_memory_is_off_is_told(asked, monkeypatch):
    there = replace(PLAIN_MACHINE, clock=1.0, memory_bytes=1)
    monkeypatch.setattr(examination, "this_machine", lambda: there)
    code, out = asked()
    assert code == 1
    assert "s from here\n" in out
    assert "  red     memory        0.0 GB may be used" in out


def test_a_cluster_that_is_not_there_is_red(command, tmp_path):
    way = ("--scheduler", "tcp://127.0.0.1:9", "--out", tmp_path)
    with dask.config.set({"virnuc.cluster.scheduler_timeout_s": 0.5}):
        code, out, _ = command("doctor", *way)
    assert code == 1
    assert "  red     cluster       no scheduler answers at tcp://127.0.0.1:9" in out


def test_jobs_are_submitted_as_a_run_submits_them(command, tmp_path, monkeypatch, address):
    told = {}

    @contextmanager
    def submitted(settings, logs, tell):
        told.update(kind=settings.kind, logs=logs, is_there=logs.is_dir())
        with Client(address) as client:
            yield client

    monkeypatch.setattr(examination, "submitted", submitted)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    code, out, _ = command("doctor", "--cluster", "slurm", "--out", tmp_path)
    assert code == 0, out
    assert (told["kind"], told["logs"].parent, told["is_there"]) == ("slurm", tmp_path, True)
    assert list(tmp_path.iterdir()) == []
    assert "shared files  as here" in out
