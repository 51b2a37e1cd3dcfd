"""A chunk that cannot be computed: it alone is lost, and it is named."""

from functools import partial

import pytest
from faulty_runs import (
    LONG,
    NO_CLUSTER,
    ONE_WORKER,
    TWO_WORKERS,
    assert_no_process_left,
    assert_same_results,
)

MARKED = 57  # a record; its first chunk is the poison
PARTITION_CHUNKS = 64 if LONG else 3
RECORDS = 120 if LONG else 60
# Six workers die one after the other: forks are there seconds earlier than new processes.
FORKED = {} if LONG else {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}


@pytest.fixture(scope="module")
def make_poisoned(make_job):
    """Makes a run of records of which one has a chunk that is poison."""
    marked = {"marked": [MARKED], "records": RECORDS, "partition_chunks": PARTITION_CHUNKS}
    return partial(make_job, **marked)


@pytest.fixture(scope="module")
def clean(make_poisoned, tmp_path_factory):
    """The same records where nothing does harm."""
    job = make_poisoned(tmp_path_factory.mktemp("clean")).but(cluster=NO_CLUSTER)
    assert job.run().returncode == 0
    return job


@pytest.fixture
def poisoned(make_poisoned, tmp_path):
    return make_poisoned(tmp_path)


def frames(job):
    lines = (job.out / "prediction_results.txt").read_text().splitlines()[1:]
    return [line.split("\t") for line in lines]


def assert_one_chunk_lost(job, clean, reason):
    """All lines of the clean run but those of the poisoned chunk; ``failed.tsv`` names it."""
    chunk = f"record{MARKED}_chunk_1"
    assert [row[:2] for row in job.failed()] == [[chunk, f"record{MARKED}"]]
    assert reason in job.failed()[0][3]
    expected = [row for row in frames(clean) if row[0][:-2] != chunk]
    assert len(expected) < len(frames(clean))
    assert [row[:2] for row in frames(job)] == [row[:2] for row in expected]
    # The matrices of pieces have another size: the last bit may differ.
    for column in (2, 3):
        scores = [[float(row[column]) for row in rows] for rows in (frames(job), expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert job.summary["chunks_failed"] == 1
    assert job.summary["partitions"]["failed"] == 1


@pytest.mark.parametrize(
    ("harm", "cluster", "reason"),
    [
        ("memory", NO_CLUSTER, "MemoryError: as if memory had run out"),
        ("nan", NO_CLUSTER, "has no score"),
        ("die", ONE_WORKER, "its worker died 2 time(s)"),
    ],
)
def test_a_chunk_that_fails_costs_no_other_chunk(poisoned, clean, harm, cluster, reason):
    job = poisoned.but(faults={"harm": harm}, cluster=cluster, environment=FORKED)
    done = job.run()
    assert done.returncode == 5, done.stderr
    assert "1 chunk(s) failed" in done.stderr
    assert_one_chunk_lost(job, clean, reason)
    assert_no_process_left(job)
    again = job.here().run("--resume")
    assert again.returncode == 0, again.stderr
    assert_same_results(job, clean)
    assert job.summary["partitions"]["computed"] == 1, "the others were done"


EVERYWHERE = {
    "runtime": (1, "RuntimeError: as if a kernel had failed"),
    "bug": (1, "NotImplementedError: as if a kernel were missing"),
    "memory": (6, "memory does not hold a single chunk"),
    "nan": (4, "every chunk fails alike: frame record"),
    "die": (6, "workers die whatever they compute"),
}


# Many partitions, or one.
@pytest.mark.parametrize(
    ("harm", "partition_chunks", "cluster"),
    [
        ("runtime", 10, NO_CLUSTER),
        ("bug", 10, NO_CLUSTER),
        ("memory", 1000, NO_CLUSTER),
        ("nan", 10, NO_CLUSTER),
        pytest.param("runtime", 10, TWO_WORKERS, marks=pytest.mark.slow),
        pytest.param("die", 10, TWO_WORKERS, marks=pytest.mark.slow),
    ],
)
def test_what_is_no_fault_of_a_chunk_ends_the_run(
    make_job, tmp_path, harm, partition_chunks, cluster
):
    job = make_job(tmp_path, partition_chunks=partition_chunks, records=60)
    job = job.but(cluster=cluster, faults={"harm": harm, "everywhere": True})
    done = job.run()
    code, told = EVERYWHERE[harm]
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert ("Traceback" in done.stderr) == (code == 1), done.stderr
    assert not (job.out / "failed.tsv").exists()
    assert not job.events("partition_failed")
    assert_no_process_left(job)


def test_a_single_partition_with_a_bad_first_chunk_names_it(make_job, tmp_path):
    job = make_job(tmp_path, partition_chunks=1000, records=30, marked=[0])
    job = job.but(cluster=NO_CLUSTER, faults={"harm": "runtime"})
    for more in ((), ("--resume",)):
        done = job.run(*more)
        assert done.returncode == 5, done.stderr
        assert [row[0] for row in job.failed()] == ["record0_chunk_1"]
