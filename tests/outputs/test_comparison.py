"""How two runs differ, on run folders that hold no more than is read of them."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask.errors import BadTableError
from virnuc_dask.outputs.comparison import Comparison, why
from virnuc_dask.outputs.fields import fields
from virnuc_dask.tables import on_disk
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import Counts, Decisions, Plan, write_run_json

CONTIGS_HEADER = "record_id\tlength_nt\tchunks\tchunks_scored\tscore\tprobability\tq_value\tcall\n"
Row = tuple[str, int, str, str]  # id, length, call, score


def make_run(path: Path, rows: list[Row], digest: str = "a" * 32, **decided: object) -> RunFolder:
    path.mkdir()
    folder = RunFolder(path)
    decisions = Decisions(digest, 500, 10, "fp32", "encoders", "modelset", **decided)
    counts = Counts(len(rows), 0, 0, 0, 0)
    run_json = {
        "virnuc_dask": "0",
        "modelset": {"name": "m", "version": "1", "checksum": "modelset"},
        "settings": {},
        "summary": {"called_by": "score >= 0.5"},
        "plan": Plan(folder, decisions, counts, ()).as_json(),
    }
    write_run_json(folder, run_json)
    lines = (
        f"{fields([name])[0]}\t{nt}\t1\t1\t{score}\t\t\t{call}\n" for name, nt, call, score in rows
    )
    folder.output("contigs.tsv").write_text(CONTIGS_HEADER + "".join(lines))
    return folder


def pairs(comparison: Comparison) -> list[tuple[object, ...]]:
    return [
        (
            one and (one.record_id, one.call),
            other and (other.record_id, other.call),
            why(one, other),
        )
        for one, other in comparison.differing()
    ]


def test_records_of_one_input_are_joined_by_their_place(tmp_path):
    one = [("x", 9, "virus", "0.9"), ("x", 9, "others", "0.1"), ("y", 9, "virus", "0.6")]
    other = [("x", 9, "virus", "0.8"), ("x", 9, "virus", "0.7"), ("y", 9, "others", "0.6")]
    comparison = Comparison(
        make_run(tmp_path / "a", one, partition_nt=5), make_run(tmp_path / "b", other)
    )
    assert comparison.causes == {}, "nothing depends on how partitions are cut"
    assert pairs(comparison) == [
        (("x", "others"), ("x", "virus"), "score"),
        (("y", "virus"), ("y", "others"), "threshold"),
    ]
    assert (comparison.calls.total(), comparison.values_differ) == (3, 2)
    assert comparison.calls["others", "virus"] == comparison.calls["virus", "others"] == 1
    assert comparison.largest_change == pytest.approx(0.6)


def draw(seed: int) -> list[Row]:
    """Records whose ids repeat, some with the same length."""
    rng = np.random.default_rng(seed)
    names = rng.choice(["a", "a\tb", 'c"', "é", "\U0001f9ec", "b"], 300).tolist()
    lengths = rng.integers(1, 4, 300).tolist()
    scores = [f"{score:.1f}" for score in rng.random(300)]
    calls = rng.choice(["virus", "others"], 300).tolist()
    return list(zip(names, lengths, calls, scores, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_records_of_other_inputs_are_joined_by_id_and_length(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(on_disk, "RUN_BYTES", 500)
    one, other = draw(seed), draw(seed + 10)
    comparison = Comparison(
        make_run(tmp_path / "a", one), make_run(tmp_path / "b", other, digest="another")
    )
    assert list(comparison.causes) == ["input"]
    found = [
        (tuple(left[1:4]) if left else None, tuple(right[1:4]) if right else None)
        for left, right in comparison.differing()
    ]
    named: dict[tuple[str, int], tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, rows in enumerate((one, other)):
        for name, length, call, _ in rows:
            named[name, length][side].append(call)
    expected, both = [], 0
    for key, (mine, theirs) in named.items():
        shared = min(len(mine), len(theirs))
        both += shared
        expected += [((*key, m), (*key, t)) for m, t in zip(mine, theirs, strict=False) if m != t]
        expected += [((*key, call), None) for call in mine[shared:]]
        expected += [(None, (*key, call)) for call in theirs[shared:]]
    assert sorted(found, key=str) == sorted(expected, key=str)
    alone = [comparison.calls["virus", "missing"], comparison.calls["others", "missing"]]
    assert (comparison.calls.total(), sum(alone)) == (600 - both, 300 - both)


def test_what_decided_is_told_and_both_are_listed(tmp_path, command):
    one = [("x", 9, "virus", "0.9"), ("only", 8, "others", "")]
    other = [("x", 9, "others", "0.25")]
    a = make_run(tmp_path / "a", one)
    b = make_run(tmp_path / "b", other, digest="b" * 32, gene_caller="fast")
    code, said, told = command("compare", a.path, b.path)
    assert code == 0
    header, *lines = said.splitlines()
    assert header == (
        "record_id\tlength_nt\tcall_a\tcall_b\tscore_a\tscore_b\tprobability_a\tprobability_b\twhy"
    )
    assert lines == [
        "only\t8\tothers\t\t\t\t\t\tmissing",
        "x\t9\tvirus\tothers\t0.900000\t0.250000\t\t\tscore",
    ]
    assert "2 of 2 records are called otherwise\n  a others, b missing: 1\n" in told
    assert "gene caller: a none; b fast" in told
    assert "input: not the same" in told
    code, said, told = command("compare", a.path, b.path, "--json")
    found = json.loads(said)
    assert (code, told) == (0, "")
    assert (found["records"], found["calls_differ"], found["largest_change"]) == (2, 2, 0.65)
    assert found["causes"]["input"] == {"a": "a" * 32, "b": "b" * 32}
    assert found["calls"][1] == {"a": "virus", "b": "others", "records": 1}
    assert command("compare", a.path, a.path)[2].endswith("settings and threshold\n")


def test_what_is_no_finished_run_or_is_damaged_is_refused(tmp_path):
    a = make_run(tmp_path / "a", [("x", 9, "virus", "0.9")])
    with pytest.raises(BadTableError, match="no finished run here"):
        Comparison(a, RunFolder(tmp_path))
    a.output("contigs.tsv").write_text("what\tis\nit\t1\n")
    with pytest.raises(BadTableError, match=r"contigs\.tsv: cannot be read"):
        list(Comparison(a, a).differing())
