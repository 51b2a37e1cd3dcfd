"""Workers that die, stop or are slow: nothing is lost and nothing is computed otherwise."""

import random
import time

import pytest
from faulty_runs import (
    LONG,
    NO_CLUSTER,
    ONE_WORKER,
    SEED,
    Job,
    assert_no_process_left,
    assert_same_results,
    wait_until,
)

KILLS = 100 if LONG else 2
TTL_S = 5 if LONG else 3  # how long a worker may be silent
SHORT_TTL = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL_S}s"}


def test_workers_killed_again_and_again_cost_nothing(make_job, tmp_path):
    """At random moments: while they start, load, compute, write."""
    draw = random.Random(SEED)
    quiet = make_job(tmp_path / "quiet", records=2400 if LONG else 60)
    assert quiet.but(cluster=NO_CLUSTER).run().returncode == 0
    job = make_job(tmp_path / "disturbed", records=2400 if LONG else 60)
    disturbing = tmp_path / "disturbing"
    disturbing.touch()
    job = job.but(faults={"delay_s": 1.5, "delay_while": str(disturbing)})
    victims = set()
    with job.start() as process:
        wait_until(lambda: job.events("modelset_loaded"))
        while len(victims) < KILLS and process.poll() is None:
            time.sleep(draw.uniform(0.2, 7 if LONG else 1.5))
            alive = sorted(job.workers(), key=lambda worker: worker.pid)
            if alive:
                victim = draw.choice(alive)
                victim.kill()
                victims.add(victim.pid)
        job.hurry()
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert len(victims) == KILLS, "the run ended too early"
    assert_same_results(job, quiet)
    assert job.summary["partitions"]["computed"] == len(list((quiet.out / "predictions").iterdir()))
    assert_no_process_left(job)


@pytest.mark.slow  # `make test-faults` runs it
def test_a_worker_that_dies_twice_within_seconds_comes_back(job, undisturbed):
    """The second time just when Dask looks whether it has come back: 15 s after the first."""
    job = job.but(cluster=ONE_WORKER, faults={"delay_s": 1.5})
    with job.start() as process:
        wait_until(lambda: job.events("modelset_loaded"))
        for pause_s in (14.5, 0):
            (worker,) = wait_until(job.workers)
            worker.kill()
            time.sleep(pause_s)
        loads = len(job.events("modelset_loaded"))
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert len(job.events("modelset_loaded")) > loads
    assert_same_results(job, undisturbed)


@pytest.mark.slow  # cluster/test_plugin.py holds what makes it so, without waiting
def test_loading_for_longer_than_a_worker_may_be_silent_does_not_kill_it(job, undisturbed):
    job = job.but(environment=SHORT_TTL, faults={"load_s": 9}, cluster=ONE_WORKER)
    done = job.run()
    assert done.returncode == 0, done.stderr
    loads = [load["model_loads"] for load in job.summary["model_loads"]]
    assert loads == [1], "none was killed and loaded again"
    assert_same_results(job, undisturbed)


def suspended(job: Job, event: str, after_s: float) -> tuple[int, str]:
    """Stop all processes at once for longer than a worker may be silent, as a laptop that sleeps.

    Returns exit code and standard error.
    """
    job = job.but(environment=SHORT_TTL)
    with job.start() as process:
        wait_until(lambda: job.events(event))
        time.sleep(after_s)
        stopped = job.processes()
        for each in stopped:
            each.suspend()
        time.sleep(TTL_S + 1)
        for each in stopped:
            each.resume()
        _, stderr = process.communicate(timeout=240)
    assert_no_process_left(job)
    return process.returncode, stderr


def test_a_suspension_while_the_model_set_loads_is_survived(job, undisturbed):
    job = job.but(faults={"load_s": 1}, cluster=ONE_WORKER)
    code, stderr = suspended(job, "modelset_loading", 0.3)
    assert (code, "Traceback" in stderr) == (0, False), stderr
    assert_same_results(job, undisturbed)


@pytest.mark.slow  # `make test-faults` runs it
@pytest.mark.parametrize("after_s", [0, 0.3, 1, 2])
@pytest.mark.parametrize(
    "event",
    ["run_started", "planned", "cluster", "modelset_loading", "modelset_loaded", "partition_done"],
)
def test_a_suspension_at_any_step_is_survived_or_told(job, undisturbed, event, after_s):
    code, stderr = suspended(job.but(faults={"load_s": 1}), event, after_s)
    assert "Traceback" not in stderr, stderr
    if code:
        assert (code, "--resume" in stderr) == (6, True), stderr
        assert job.here().run("--resume").returncode == 0
    assert_same_results(job, undisturbed)


def test_a_frame_that_does_not_fit_at_all_is_named(job):
    """Memory for 400 tokens: frames of full length stand in failed.tsv, one by one."""
    job = job.but(cluster=NO_CLUSTER, faults={"most_tokens": 400})
    job.inputs.write_text(">fits\n" + "ACG" * 120 + "\n>too_long\n" + "ACG" * 150 + "\n")
    done = job.run()
    assert done.returncode == 5, done.stderr
    (row,) = job.failed()
    assert row[:2] == ["too_long_chunk_1", "too_long"]
    assert "OutOfMemoryError" in row[3]
    assert job.summary["chunks_failed"] == 1
    assert job.summary["chunks_scored"] == 1
