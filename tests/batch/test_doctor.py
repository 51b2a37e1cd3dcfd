"""``doctor`` looks at the workers that a batch system gives, and leaves no job."""

import os
import subprocess
import sys


def test_the_jobs_workers_are_looked_at_and_end(system, job, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "virnuc_dask", "doctor", "--out", out, *job.cluster],
        env=os.environ | job.environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nworker virnuc-" in done.stdout
    assert "  green   shared files  as here\n" in done.stdout
    assert not system.left()
    assert not list(tmp_path.glob(".virnuc-doctor-*"))
