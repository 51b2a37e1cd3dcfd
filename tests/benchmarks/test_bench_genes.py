import json
import sys

import bench_genes
import measured

from virnuc_dask.sequences.records import read_records


def test_every_caller_is_timed_and_compared(monkeypatch, capsys, tmp_path):
    fasta = tmp_path / "few.fasta"
    records = list(read_records([str(bench_genes.DEMO)]))[:5:2]
    fasta.write_text("".join(f">{record.id}\n{record.dna}\n" for record in records))
    file = tmp_path / "genes.json"
    command = ["bench_genes.py", fasta, "--length", 9000, "--repeats", 1, "--out", file]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    monkeypatch.setattr(measured.os, "sched_setaffinity", lambda *_: None)
    bench_genes.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(file.read_text()) == figures
    callers = figures["callers"]
    assert list(callers) == list(bench_genes.CALLERS)
    assert callers["pyrodigal-gv, 62 models"]["precision"] == 1
    for caller in callers.values():
        assert caller["mbp_per_cpu_s"] > 0
        assert min(caller["precision"], caller["recall"], caller["same_start"]) > 0.8


def test_the_lists_of_models_are_lists_of_so_many():
    assert len(set(bench_genes.CHOSEN_16)) == 16
    assert len(set(bench_genes.CHOSEN_24)) == 24
    assert set(bench_genes.CHOSEN_16) < set(bench_genes.CHOSEN_24)
