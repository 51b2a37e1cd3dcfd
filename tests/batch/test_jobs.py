"""Workers as jobs of each batch system, and what happens to jobs."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from batch_system import assert_no_chunk_is_blamed, notes
from faulty_runs import (
    assert_no_process_left,
    assert_same_results,
    interrupt,
    wait_for_partitions,
    wait_until,
)

DEMO = Path(__file__).parents[1] / "data" / "demo.fasta.gz"


def test_the_demo_over_two_jobs_gives_the_bytes_of_no_cluster(system, job, tmp_path):
    preset = tmp_path / "small.yaml"
    preset.write_text("virnuc: {partition_nt: 60000}")
    shutil.copy(DEMO, tmp_path)
    demo = job.but(
        inputs=tmp_path / DEMO.name, options=["--config", str(preset)], out=tmp_path / "demo"
    )
    expected = demo.but(out=tmp_path / "expected").here()
    assert expected.run().returncode == 0
    done = demo.run()
    assert done.returncode == 0, done.stderr
    assert_same_results(demo, expected)
    for name in ("virus.fasta", "virus_regions.tsv", "genes.parquet"):
        assert (demo.out / name).read_bytes() == (expected.out / name).read_bytes(), name
    assert "Workers come to tls://127.0.0.1:" in notes(demo)
    assert len(list((demo.out / "jobs").glob(system.logs))) == 2
    assert not list((demo.out / "jobs").glob(".*")), "certificates stay behind"
    assert not system.left()
    cluster = json.loads((demo.out / "run.json").read_text())["summary"]["cluster"]
    assert (cluster["kind"], cluster["threads"]) == (system.cluster, 1)


def test_the_run_does_not_wait_for_a_third_job(system, job, undisturbed):
    done = job.run("--jobs", "3")
    assert done.returncode == 0, done.stderr
    assert_same_results(job, undisturbed)
    assert "2 of 3 jobs running, waiting" in notes(job)
    assert f"({system.told})" in notes(job)


def test_a_job_that_is_cancelled_is_submitted_again(system, job, undisturbed):
    with job.start() as process:
        wait_for_partitions(job, 3)
        first, second = system.running()
        system.cancel(first)
        wait_until(lambda: system.left()[:1] == [second] and len(system.left()) == 2, 60, 0.2)
        _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert_same_results(job, undisturbed)
    assert_no_chunk_is_blamed(job)
    assert any(system.ends_by in log.read_text() for log in (job.out / "jobs").glob(system.logs))


def test_a_job_that_is_pre_empted_waits_for_its_turn(system, job, undisturbed):
    with job.start() as process:
        wait_for_partitions(job, 3)
        system.preempt(system.running()[0])
        _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert_same_results(job, undisturbed)
    assert_no_chunk_is_blamed(job)
    assert "1 of 2 jobs running" in notes(job)
    assert len(list((job.out / "jobs").glob(system.logs))) == 2, "another was submitted"


@pytest.mark.parametrize("when", ["waiting", "computing"])
def test_an_interrupt_leaves_no_job(system, job, when):
    if when == "waiting":
        job = job.but(cluster=(*job.cluster, *system.never))
    with job.start() as process:
        wait_until(lambda: "of 2 jobs running" in notes(job))
        if when == "computing":
            wait_for_partitions(job, 2)
        code, stderr = interrupt(process, signal.SIGINT)
    assert code == 130, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not system.jobs(), 30, 0.2)
    assert_no_process_left(job, 30)


def test_what_does_not_exist_is_told_at_once(system, job):
    done = job.but(cluster=(*job.cluster, *system.wrong)).run()
    assert done.returncode == 6, done.stderr
    assert "jobs cannot be submitted" in done.stderr
    assert system.refusal in done.stderr


def test_jobs_that_end_at_once_are_not_submitted_for_ever(system, job):
    broken = ("--job-setup", "echo no such module >&2", "--job-setup", "exit 3")
    done = job.but(cluster=(*job.cluster, *broken)).run()
    assert done.returncode == 6, done.stderr
    assert "jobs ended before their workers came" in done.stderr
    assert "no such module" in done.stderr
    assert not system.left()
