import json
import sys
from pathlib import Path

import bench_planning
import pytest
from bench_planning import CONTIG_NT, READ_NT, draw_fasta, main

from virnuc_dask.sequences.records import read_records


@pytest.mark.slow
def test_every_part_is_measured(monkeypatch, capsys, tmp_path):
    # The fresh processes that measure import the program by its name.
    monkeypatch.syspath_prepend(str(Path(bench_planning.__file__).parent))
    sizes = ("--contigs-mbp", 0.5, "--record-mbp", 0.5, "--reads", 1500, "--frames", 20)
    file = tmp_path / "planning.json"
    options = [*sizes, "--repeats", 1, "--work", tmp_path, "--out", file]
    monkeypatch.setattr(sys, "argv", ["bench_planning.py", *map(str, options)])
    main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(file.read_text()) == figures
    assert figures["planning"]["long_record"]["records"] == 1
    assert figures["planning"]["reads"]["records"] == 1500
    assert all(case["mbp_per_cpu_s"] > 0 for case in figures["planning"].values())
    single, half = (figures["writer"][dtype]["megabytes"] for dtype in ("float32", "float16"))
    assert single == pytest.approx(2 * half, rel=0.2)
    assert 0 < figures["start_up"]["help_s"] < figures["start_up"]["first_partition_s"]


def test_drawn_inputs_have_the_size_and_the_records_asked_for(tmp_path):
    lengths = {
        name: [len(record.dna) for record in read_records([str(draw_fasta(path, 0.3, nt))])]
        for name, nt in (("contigs", CONTIG_NT), ("reads", READ_NT), ("one", None))
        for path in [tmp_path / f"{name}.fa"]
    }
    assert {name: sum(of) for name, of in lengths.items()} == dict.fromkeys(lengths, 300_000)
    assert len(lengths["one"]) == 1
    assert set(lengths["reads"]) == {READ_NT}
    assert len(set(lengths["contigs"])) > 20
