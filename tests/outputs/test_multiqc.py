import json
from importlib import import_module

import pytest

from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.outputs.multiqc import write_for_pipelines
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder

CONTIGS_HEADER = "\t".join([*schemas.CONTIGS.names[:8], "sample"]) + "\n"
CALLED = [  # id, length, score, probability, call, sample
    ("a", 100, "0.9", "0.99", "virus", "one"),
    ("b", 50, "0.6", "0.525", "virus", "two"),
    ("c", 30, "0.2", "0.0", "others", "one"),
    ("d", 20, "0.7", "", "others", "one"),
    ("e", 10, "", "", "unscored", "two"),
    ("f", 40, "1.0", "1.0", "virus", "one"),
    ("g", 60, "0.3", "0.3", "others", ""),
]


def shown(folder: RunFolder) -> dict[str, dict]:
    write_for_pipelines(folder, read_info(find("mini")))
    found = (json.loads(path.read_text()) for path in (folder.path / "multiqc").glob("*_mqc.json"))
    return {each["id"]: each for each in found}


def write_contigs(folder: RunFolder, *, samples: bool) -> None:
    lines = (
        f"{name}\t{nt}\t1\t1\t{score}\t{chance}\t\t{call}\t{sample * samples}\n"
        for name, nt, score, chance, call, sample in CALLED
    )
    folder.output("contigs.tsv").write_text(CONTIGS_HEADER + "".join(lines))


@pytest.mark.parametrize("rows", [None, 1])
def test_a_sample_is_a_row_however_the_table_is_read(tmp_path, monkeypatch, rows):
    if rows:  # a few bytes at a time
        monkeypatch.setattr(import_module("virnuc_dask.outputs.contig_table"), "_BLOCK", 100)
    folder = RunFolder(tmp_path)
    write_contigs(folder, samples=True)
    found = shown(folder)
    general = {"records": 4, "virus": 2, "virus_percent": 50, "virus_nt": 140}
    assert found["virnuc_general"]["data"]["one"] == general
    assert found["virnuc_calls"]["data"] == {
        "one": {"virus": 2, "others": 2},
        "two": {"virus": 1, "unscored": 1},
        tmp_path.name: {"others": 1},
    }
    # The score where there is no probability, and nothing where there is none of both.
    values = found["virnuc_values"]["data"]
    assert {at: n for at, n in values["one"].items() if n} == {"0.025": 1, "0.725": 1, "0.975": 2}
    assert {at: n for at, n in values["two"].items() if n} == {"0.525": 1}
    assert found["virnuc_general"]["headers"].keys() == general.keys()


@pytest.mark.parametrize(("prefix", "name"), [("", "a run"), ("s1", "s1")])
def test_without_samples_the_run_is_one(tmp_path, prefix, name):
    folder = RunFolder(tmp_path / "a run", prefix)
    folder.path.mkdir()
    write_contigs(folder, samples=False)
    found = shown(folder)
    assert found["virnuc_calls"]["data"] == {name: {"virus": 3, "others": 3, "unscored": 1}}
    folder.output("contigs.tsv").write_text(CONTIGS_HEADER)
    general = shown(folder)["virnuc_general"]["data"]
    assert general == {name: {"records": 0, "virus": 0, "virus_percent": 0, "virus_nt": 0}}


def test_one_sample_goes_by_the_name_of_its_run(tmp_path):
    folder = RunFolder(tmp_path, "gut")
    row = "a\t100\t1\t1\t0.9\t0.99\t\tvirus\tfinal.contigs\n"
    folder.output("contigs.tsv").write_text(CONTIGS_HEADER + row)
    assert shown(folder)["virnuc_calls"]["data"] == {"gut": {"virus": 1}}


def test_every_call_has_a_colour(tmp_path):
    calls = import_module("virnuc_dask.stages.calls")
    folder = RunFolder(tmp_path)
    write_contigs(folder, samples=False)
    known = {calls.VIRUS, calls.OTHERS, calls.UNSURE, calls.UNSCORED}
    assert known < shown(folder)["virnuc_calls"]["categories"].keys()
