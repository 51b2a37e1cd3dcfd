"""A disk that is full, files that may not grow: told in one line, nothing half written."""

import subprocess
import sys
from pathlib import Path

from faulty_runs import (
    NO_CLUSTER,
    ONE_WORKER,
    Job,
    assert_no_process_left,
    assert_nothing_half_written,
    assert_same_results,
)

# Runs what follows with a limit on the size of any file that it, or what it starts, writes.
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)
DISK_BYTES, PAGE_BYTES = 1 << 20, 4096


def assert_stopped_in_order(done: subprocess.CompletedProcess, job: Job, reason: str) -> None:
    assert done.returncode == 5, done.stderr
    assert reason in done.stderr
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert_nothing_half_written(job)
    assert not list(job.out.rglob(".*.part"))
    assert_no_process_left(job)


def test_files_that_may_not_grow_end_the_run_in_order(job, undisturbed):
    """Feature tables are the largest; partition tables fit."""
    job = job.but(cluster=ONE_WORKER, faults={})
    sizes = [p.stat().st_size for p in (undisturbed.out / "features").iterdir()]
    limit = str(sorted(sizes)[len(sizes) // 2])  # half of them are too large
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, limit, *job.command()],
        env=job.environ,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert_stopped_in_order(done, job, "File too large")
    again = job.here().run("--resume")
    assert again.returncode == 0, again.stderr
    assert_same_results(job, undisturbed)


def on_disk(folder: Path) -> int:
    """What the files of a folder take of a file system of pages."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(-(-size // PAGE_BYTES) for size in sizes) * PAGE_BYTES


def test_a_full_disk_ends_the_run_in_order_and_room_lets_it_go_on(job, undisturbed, small_disk):
    planned, whole = on_disk(undisturbed.out / "partitions"), on_disk(undisturbed.out)
    room = planned + (whole - planned) // 2  # for the plan, not for all that is made of it
    (small_disk / "ballast").write_bytes(bytes(DISK_BYTES - room))
    job = job.but(out=small_disk / "out", cluster=NO_CLUSTER, faults={})
    done = job.run()
    assert_stopped_in_order(done, job, "No space left on device")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = job.here().run("--resume")
    assert again.returncode == 0, again.stderr
    assert_same_results(job, undisturbed)


def test_a_disk_too_small_for_the_plan_is_told(job, small_disk):
    (small_disk / "ballast").write_bytes(bytes(DISK_BYTES - 100_000))
    done = job.but(out=small_disk / "out", cluster=NO_CLUSTER).run()
    assert done.returncode == 5, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
