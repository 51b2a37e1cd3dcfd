"""What happens to jobs of Slurm only; test_jobs.py has what happens to those of all systems."""

import sys
import time
from pathlib import Path

import pytest
from batch_system import assert_no_chunk_is_blamed, notes
from faulty_runs import Job, assert_same_results, wait_for_partitions, wait_until
from slurm_system import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.parametrize("system", ["slurm"], indirect=True)]

GIVE_UP_S = 120  # how soon workers end that were left alone
SIZE = ("--job-cores", "1", "--job-memory", "4GB")


def on_jobs(number: int, *more: str) -> tuple[str, ...]:
    return ("--cluster", "slurm", "--jobs", str(number), *SIZE, *more)


@pytest.fixture
def slurm(system: Slurm) -> Slurm:
    return system


def test_a_failing_node_costs_no_partition(slurm, job, undisturbed):
    with job.start() as process:
        wait_for_partitions(job, 3)
        # It comes back by itself, and the job does after two minutes.
        slurm.call("scontrol", "update", "nodename=n1", "state=down", "reason=test")
        wait_until(lambda: "1 of 2 jobs running, waiting" in notes(job), 60)
        _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert_same_results(job, undisturbed)
    assert_no_chunk_is_blamed(job)


def test_workers_end_before_their_walltime_and_others_take_over(slurm, job, undisturbed):
    job = job.but(
        cluster=("--cluster", "slurm", "--jobs", "2", *SIZE, "--walltime", "1"),
        faults={"delay_s": 5},
    )
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert_same_results(job, undisturbed)
    assert_no_chunk_is_blamed(job)
    logs = [path.read_text() for path in sorted((job.out / "jobs").glob("virnuc-*.err"))]
    assert len(logs) > 2
    assert sum("worker-lifetime-reached" in log for log in logs) > 1
    assert not any("DUE TO TIME LIMIT" in log for log in logs)


def test_a_queue_that_starts_nothing_is_told_and_given_up(slurm, job):
    limit = {"DASK_VIRNUC__CLUSTER__WORKER_TIMEOUT_S": "8"}
    job = job.but(cluster=on_jobs(2, "--queue", "closed"), environment=job.environment | limit)
    done = job.run()
    assert done.returncode == 6, done.stderr
    assert "0 of 2 jobs running, waiting" in notes(job)
    assert "no worker came within 8 s: 0 of 2 jobs running (squeue says: PENDING, " in done.stderr
    assert not slurm.jobs()


def test_workers_give_up_when_their_client_is_killed(slurm, job, undisturbed):
    job = job.but(cluster=on_jobs(3))  # the third starts when the others have given up
    with job.start() as process:
        wait_for_partitions(job, 3)
        process.kill()
    killed = time.monotonic()
    wait_until(lambda: slurm.jobs("R") == [slurm.jobs()[-1]], GIVE_UP_S, 0.5)
    print(f"two jobs gone after {time.monotonic() - killed:.0f} s")
    wait_until(lambda: not slurm.jobs(), GIVE_UP_S, 0.5)
    print(f"all jobs gone after {time.monotonic() - killed:.0f} s")
    resumed = job.here().run("--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_results(job, undisturbed)


def blind(job: Job, folder: Path, nodes: str = "n1 n2") -> Job:
    """The same, on ``nodes`` in a mount namespace of its own where the run folder is another."""
    python = folder / "python"
    hidden = f"unshare -m sh -c 'mount -t tmpfs none {job.out} && exec {sys.executable} \"$@\"' -"
    python.write_text(
        f'#!/bin/sh\ncase " {nodes} " in *" $SLURMD_NODENAME "*) exec {hidden} "$@";; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    seen = {"DASK_JOBQUEUE__SLURM__PYTHON": str(python)}
    return job.but(environment=job.environment | seen)


@pytest.mark.parametrize("tls", ["true", "false"])
def test_jobs_that_do_not_see_the_run_folder_are_told(slurm, job, tmp_path, tls):
    job = blind(job, tmp_path)
    done = job.but(environment=job.environment | {"DASK_VIRNUC__CLUSTER__JOBS__TLS": tls}).run()
    assert done.returncode == 6, done.stderr
    message = "does not exist" if tls == "true" else "does not see the run folder"
    assert message in done.stderr
    assert str(job.out) in done.stderr


def test_a_job_that_does_not_see_the_run_folder_gets_nothing_to_do(
    slurm, job, tmp_path, undisturbed
):
    job = blind(job, tmp_path, "n1")
    job = job.but(environment=job.environment | {"DASK_VIRNUC__CLUSTER__JOBS__TLS": "false"})
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert_same_results(job, undisturbed)
    assert len({event["worker"] for event in job.events("partition_done")}) == 1


def test_a_run_grows_with_its_work(slurm, job, undisturbed):
    limit = {"DASK_VIRNUC__CLUSTER__JOBS__AT_MOST": "2"}
    options = ("--cluster", "slurm", "--jobs", "auto", *SIZE)
    job = job.but(cluster=options, environment=job.environment | limit, faults={"delay_s": 3})
    done = job.run()
    assert done.returncode == 0, done.stderr
    assert_same_results(job, undisturbed)
    assert "2 of 2 jobs running" in notes(job)
    assert not slurm.jobs("R", "PD")


def test_the_scheduler_file_of_a_slurm_runner(slurm, job, tmp_path, undisturbed):
    script = tmp_path / "runner.py"
    script.write_text(
        "from dask_jobqueue.slurm import SLURMRunner\n"
        f"with SLURMRunner(scheduler_file='{tmp_path}/scheduler.json', "
        "scheduler_options={'interface': 'lo', 'dashboard': False}, "
        "worker_options={'interface': 'lo', 'nthreads': 1}) as runner:\n"
        "    import time; time.sleep(600)\n"
    )
    wrapped = f"srun --overcommit -n 3 {sys.executable} {script}"
    log = f"{tmp_path}/runner.log"
    call = ("sbatch", "-n", "1", "-o", log, "--export", "ALL", "--wrap", wrapped)
    slurm.call("env", *(f"{k}={v}" for k, v in job.environ.items()), *call)
    wait_until((tmp_path / "scheduler.json").exists, 60, 0.2)
    job = job.but(cluster=("--scheduler-file", str(tmp_path / "scheduler.json")))
    done = job.run()
    assert done.returncode == 0, done.stderr + Path(log).read_text()
    assert_same_results(job, undisturbed)
