import json
import sys

import bench_reading
import measured


def test_every_input_is_read_by_both_readers(monkeypatch, capsys, tmp_path):
    file = tmp_path / "reading.json"
    options = ["--megabytes", 0.3, "--repeats", 2, "--work", tmp_path, "--out", file]
    monkeypatch.setattr(sys, "argv", ["bench_reading.py", *map(str, options)])
    monkeypatch.setattr(measured.os, "sched_setaffinity", lambda *_: None)
    bench_reading.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(file.read_text()) == figures
    assert list(figures["reading"]) == [
        "short_reads.fastq",
        "long_reads.fastq",
        "short_reads.fasta",
        "contigs.fasta",
    ]
    for readers in figures["reading"].values():
        assert readers["ours"]["records"] == readers["dnaio"]["records"] > 5
        assert readers["ours"]["mb_per_cpu_s"] > 0
