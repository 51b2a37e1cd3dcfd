"""A cluster that is not ours: its scheduler dies, its workers come late, damaged or other."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from faulty_runs import (
    Job,
    Run,
    assert_same_results,
    wait_for_partitions,
    wait_until,
)


@dataclass
class Cluster:
    """A scheduler and workers, each a process."""

    folder: Path
    environ: dict[str, str]
    processes: list[Run | subprocess.Popen] = field(default_factory=list)

    @property
    def scheduler_file(self) -> Path:
        return self.folder / "scheduler.json"

    def scheduler(self) -> Run:
        """Start the scheduler; it is there when this returns."""
        options = ("--host", "127.0.0.1", "--port", "0")
        scheduler = self._fork(self._command("scheduler", *options), self.environ)
        wait_until(self.scheduler_file.exists)
        return scheduler

    def worker(self, name: str, **environment: str) -> Run:
        """Start a worker without a nanny."""
        command = self._worker_command("--no-nanny", "--name", name)
        return self._fork(command, self.environ | environment)

    def nanny(self, name: str) -> subprocess.Popen:
        """Start a nanny with its worker, which it starts again when that dies."""
        process = subprocess.Popen(
            self._worker_command("--name", name),
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def _worker_command(self, *options: str) -> list[str]:
        place = ("--local-directory", str(self.folder))
        return self._command("worker", "--nthreads", "1", *place, *options)

    def _command(self, what: str, *options: str) -> list[str]:
        common = ("--scheduler-file", str(self.scheduler_file), "--no-dashboard")
        return [sys.executable, "-m", "dask", what, *common, *options]

    def _fork(self, command: list[str], environ: dict[str, str]) -> Run:
        process = Run(command, environ, self.folder)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def start_cluster(tmp_path) -> Iterator[Callable[[Job], Cluster]]:
    started = []

    def start(job: Job) -> Cluster:
        cluster = Cluster(tmp_path, job.environ)
        started.append(cluster)
        cluster.scheduler()
        return cluster

    yield start
    for cluster in started:
        cluster.close()


def on(cluster: Cluster, job: Job) -> Job:
    return job.but(cluster=("--scheduler-file", str(cluster.scheduler_file)))


def put(path: Path, content: bytes) -> None:
    """Another file under this name: the one that was there is mapped by a worker."""
    new = path.parent.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def refuse_another(cluster: Cluster, job: Job, process: Run, modelset: Path) -> None:
    """Start a worker that finds a damaged model set, once the others have theirs."""
    weights = modelset / "peptide.safetensors"
    sound = weights.read_bytes()
    try:
        wait_for_partitions(job, 1)
        put(weights, sound[:-1] + bytes([sound[-1] ^ 1]))
        cluster.worker("damaged")
        wait_until(lambda: job.events("worker_refused") or process.poll() is not None)
    finally:
        put(weights, sound)


def test_a_scheduler_that_is_killed_ends_the_run_and_what_is_done_is_kept(
    job, undisturbed, start_cluster
):
    job = job.but(environment={"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"})
    cluster = start_cluster(job)
    cluster.worker("first")
    with on(cluster, job).start() as process:
        wait_for_partitions(job, 2)
        cluster.processes[0].kill()
        _, stderr = process.communicate()
    assert process.returncode == 6, stderr
    assert "the cluster went away" in stderr
    assert "Traceback" not in stderr.split("error: ")[-1]
    again = job.here().run("--resume")
    assert again.returncode == 0, again.stderr
    assert job.summary["partitions"]["done_before"] >= 2
    assert_same_results(job, undisturbed)


def test_a_nanny_killed_with_its_worker_and_started_again_goes_on(job, undisturbed, start_cluster):
    cluster = start_cluster(job)
    nanny = cluster.nanny("first")
    with on(cluster, job).start() as process:
        wait_for_partitions(job, 2)
        nanny.kill()
        nanny.wait()
        cluster.worker("second")
        job.hurry()
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert_same_results(job, undisturbed)
    assert {event["worker"] for event in job.events("partition_done")} == {"first", "second"}


def test_a_worker_killed_beside_a_refused_one_comes_back_and_the_run_ends(
    job, undisturbed, start_cluster, faulty_modelset
):
    """Its nanny starts it under another address: what was bound to the old one goes there."""
    cluster = start_cluster(job)
    cluster.nanny("sound")
    with on(cluster, job).start() as process:
        refuse_another(cluster, job, process, faulty_modelset)
        psutil.Process(job.events("modelset_loaded")[0]["pid"]).kill()
        job.hurry()
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    (refused,) = job.events("worker_refused")
    assert "worker damaged (tcp://127.0.0.1:" in refused["reason"]
    assert "peptide.safetensors: damaged" in stderr
    assert len(job.events("modelset_loaded")) == 2, "it came back, and loaded again"
    assert {event["worker"] for event in job.events("partition_done")} == {"sound"}
    assert_same_results(job, undisturbed)


@pytest.fixture
def another_version(tmp_path) -> Path:
    """A folder that says, to those who have it on their path, that the version is 0.0.9."""
    there = tmp_path / "older" / "virnuc_dask-0.0.9.dist-info"
    there.mkdir(parents=True)
    (there / "METADATA").write_text("Metadata-Version: 2.1\nName: virnuc-dask\nVersion: 0.0.9\n")
    return there.parent


def test_workers_of_another_version_are_refused_with_both(job, start_cluster, another_version):
    cluster = start_cluster(job)
    cluster.worker("older", PYTHONPATH=f"{another_version}{os.pathsep}{job.environ['PYTHONPATH']}")
    done = on(cluster, job).run()
    assert done.returncode == 6, done.stderr
    assert f"has virnuc_dask 0.0.9, this run {version('virnuc-dask')}" in done.stderr
