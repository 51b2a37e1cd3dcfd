"""Each program, on very little."""

import os

import bench_persistence
import bench_reading
import bench_run
import bench_scaling
import pytest


@pytest.fixture
def one_core(monkeypatch):
    """Other tests of this process keep their cores."""
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)


@pytest.mark.usefixtures("one_core")
def test_every_input_is_read_by_both_readers_and_planned(program, tmp_path):
    found = program(bench_reading, "--megabytes", 0.3, "--repeats", 1, "--work", tmp_path)[
        "reading"
    ]
    assert list(found) == [
        *("short_reads.fastq", "long_reads.fastq"),
        *("short_reads.fasta", "contigs.fasta", "long_record.fasta"),
    ]
    assert found["long_record.fasta"]["ours"]["records"] == 1
    for readers in found.values():
        assert readers["ours"]["records"] == readers["dnaio"]["records"] > 0
        assert all(figures["mb_per_cpu_s"] > 0 for figures in readers.values())
        assert readers["plan"]["peak_mb"] > 10


@pytest.mark.usefixtures("tiny")
def test_a_run_in_this_process_with_random_weights(program):
    few = ("--chunks", 60, "--partition-chunks", 20, "--repeats", 1)
    figures = program(bench_run, *few, "--random", "8M", "--ways", "none")
    none = figures["none"]
    assert none["frames"] > 20, "half of the chunks have a frame"
    assert none["stage_peptide_s"] > 0
    assert none["working_s"] + none["start_s"] <= none["whole_s"]
    assert "ESM-2 8M" in figures["model"]


PERSISTENCE = ("--models", "mini", "--mini-chunks", 40, "--partitions", 4, "--workers", 1)


def test_both_modes_are_compared_on_the_same_input(program, monkeypatch):
    monkeypatch.setattr(bench_persistence, "FIXED", {"cluster.kind": "none"})
    (row,) = program(bench_persistence, *PERSISTENCE)["runs"]
    assert row["same_bytes"] is True
    assert (row["persistent"]["loads"], row["per_partition"]["loads"]) == (1, 4)
    assert all(row[mode]["loading_s"] > 0 for mode in bench_persistence.MODES)
    assert all(0 < row[mode]["loading_share"] < 1 for mode in bench_persistence.MODES)
    first, last = row["persistent"]["memory_bytes"]["client"]
    assert first > 0 < last


def test_every_point_is_measured_in_a_process_of_its_own(program):
    options = ("--workers", 1, 3, "--partitions", 12, "--sleep-s", 0.02)
    one, three = program(bench_scaling, *options)["points"]
    assert (one["workers"], three["workers"]) == (1, 3)
    assert (one["ideal_s"], three["ideal_s"]) == pytest.approx((0.24, 0.08))
    for point in (one, three):
        overhead_s = point["elapsed_s"] - point["ideal_s"]
        assert overhead_s >= 0
        assert point["overhead_ms"] == pytest.approx(1000 * overhead_s / 12, abs=0.1)
        assert point["memory_peak_mb"] >= point["memory_started_mb"] > 10
