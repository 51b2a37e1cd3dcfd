"""The client killed, interrupted, terminated: --resume gives the same, and no process is left."""

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from faulty_runs import (
    LONG,
    NO_CLUSTER,
    ONE_WORKER,
    SEED,
    Job,
    assert_no_process_left,
    assert_nothing_half_written,
    assert_same_results,
    interrupt,
    wait_for_partitions,
    wait_until,
)

CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
INTERRUPTIONS = 50 if LONG else 2
LONGEST_S = 12 if LONG else 2


def test_interrupted_at_random_moments_a_run_gives_the_same_in_the_end(
    make_job, undisturbed, tmp_path
):
    draw = random.Random(SEED)
    signals = iter([*CODES] * INTERRUPTIONS)
    left, number = INTERRUPTIONS, 0
    while left:
        job = make_job(tmp_path / str(number)).but(faults={"delay_s": 0.3})
        number += 1
        for with_signal in signals:
            if not disturb(job, with_signal, draw.uniform(0, LONGEST_S)):
                break
            left -= 1
            if not left or draw.random() < 0.2:
                break
        before = finished(job)
        ended = job.here().run("--resume")
        assert ended.returncode == 0, ended.stderr
        assert finished(job).items() >= before.items(), "finished partitions were computed again"
        assert_same_results(job, undisturbed)
        assert_no_process_left(job)


def disturb(job: Job, with_signal: signal.Signals, after_s: float) -> bool:
    """Run, send a signal after a while; False if the run was over by then."""
    before = finished(job)
    starts, ends = (len(job.events(event)) for event in ("run_started", "run_done"))
    process = job.start("--resume")
    with process:
        wait_until(lambda: len(job.events("run_started")) > starts)
        time.sleep(after_s)
        if process.poll() is not None:
            return False
        code, stderr = interrupt(process, with_signal)
    # Python drops an interruption that comes while it collects garbage: the run goes on to its end.
    # One that comes when everything is written ends Python by Python's own way.
    over = code == 0 or len(job.events("run_done")) > ends
    assert code == CODES[with_signal] or over, (with_signal, stderr)
    if with_signal is not signal.SIGKILL and not over:
        assert "continue with --resume" in stderr
    assert_no_process_left(job)
    assert_nothing_half_written(job)
    assert finished(job).items() >= before.items(), "finished partitions were computed again"
    return not over


def finished(job: Job) -> dict[str, tuple[int, int]]:
    """Tables that are done: a file that was written again is another one."""
    tables = job.out.glob("predictions/part-*.parquet")
    return {table.name: (table.stat().st_ino, table.stat().st_mtime_ns) for table in tables}


def test_the_second_interruption_is_obeyed_at_once(job):
    """While the worker is stopped, whose release the first one waits for."""
    job = job.but(cluster=ONE_WORKER)
    with job.start() as process:
        wait_for_partitions(job, 1)
        (worker,) = job.workers()
        worker.suspend()
        process.send_signal(signal.SIGINT)
        # Again and again: signals that come before Python has looked are one.
        wait_until(lambda: process.send_signal(signal.SIGTERM) or process.poll(), poll_s=0.3)
        _, stderr = process.communicate()
        worker.resume()
    assert process.returncode == 143, "the second one's"
    assert "Traceback" not in stderr, stderr
    assert "--resume" not in stderr, "which is said once everything is released"
    assert_no_process_left(job)


def test_what_a_killed_run_left_half_written_is_cleared_away(job, undisturbed):
    job = job.but(cluster=NO_CLUSTER)
    with job.start() as process:
        wait_for_partitions(job, 1)
        interrupt(process, signal.SIGKILL)
    (job.out / "multiqc").mkdir(exist_ok=True)
    for name in ("predictions/.part-00007.parquet", "multiqc/.virnuc_calls_mqc.json"):
        (job.out / f"{name}.0123456789ab.part").write_bytes(b"half")
    with (job.out / "run.log.jsonl").open("a") as log:
        log.write('{"event": "half')
    assert job.here().run("--resume").returncode == 0
    assert_same_results(job, undisturbed)
    assert not list(job.out.rglob(".*.part"))
    assert job.events("run_done"), "every line of the log is whole"


@pytest.fixture
def held(job) -> Iterator[Job]:
    """A folder that another run is writing to."""
    job = job.but(cluster=NO_CLUSTER)
    with job.start() as process:
        wait_for_partitions(job, 1)
        yield job
        os.kill(process.pid, signal.SIGTERM)
        process.communicate()


def test_a_second_run_into_the_same_folder_is_refused(held):
    for more in ("--resume", "--force"):
        before = finished(held)
        done = held.but(mark="another").run(more)
        assert done.returncode == 2, more
        assert "another run is writing here" in done.stderr
        assert finished(held).items() >= before.items(), more
