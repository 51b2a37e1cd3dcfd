from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from virnuc_dask.errors import PlanChangedError
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import write_table
from virnuc_dask.tables.plan import (
    Counts,
    Decisions,
    Plan,
    PlannedPartition,
    fingerprint,
    read_plan,
    refuse_change,
    write_run_json,
)

DECISIONS = Decisions(
    input_digest="d1",
    chunk_length=500,
    partition_chunks=1000,
    precision="fp32",
    encoders_checksum="e1",
    modelset_checksum="m1",
)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    folder = RunFolder(tmp_path)
    folder.prepare(resume=False, force=False)
    counts = Counts(records=2, chunks=3, length_nt=900, duplicate_ids=0, shorter_records=1)
    parts = (PlannedPartition(0, 2, "c0"), PlannedPartition(1, 1, "c1"))
    return Plan(folder, DECISIONS, counts, parts)


TABLES = ("features", "predictions", "records")


def fingerprints(plan: Plan) -> tuple[list[str], ...]:
    """Of all `TABLES`."""
    tasks = list(plan.tasks())
    of_tasks = ([task.features for task in tasks], [task.predictions for task in tasks])
    return *of_tasks, [plan.records_fingerprint]


GENES = replace(
    DECISIONS, gene_caller="pyrodigal-gv", piece_nt=1000, overlap_nt=100, partition_nt=5000
)


@pytest.mark.parametrize("decisions", [DECISIONS, GENES])
def test_a_plan_comes_back_from_run_json(plan, decisions):
    plan = replace(plan, decisions=decisions)
    write_run_json(plan.folder, {"summary": None, "plan": plan.as_json()})
    assert read_plan(plan.folder) == plan
    assert decisions.reads_genes == (decisions is GENES)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"plan": null}', b'{"plan": {"decisions": {}}}', b"\xff\xfe\0"]
)
def test_a_run_json_without_a_readable_plan_is_no_plan(plan, content):
    assert read_plan(plan.folder) is None
    plan.folder.run_json.write_bytes(content)
    assert read_plan(plan.folder) is None


def test_a_plan_of_another_version_is_no_plan(plan):
    content = plan.as_json()
    content["decisions"]["a_new_decision"] = 1
    write_run_json(plan.folder, {"plan": content})
    assert read_plan(plan.folder) is None


def test_there_is_a_task_for_every_partition_and_a_fingerprint_for_every_table(plan):
    tasks = [(task.index, task.chunks, task.content) for task in plan.tasks()]
    assert tasks == [(0, 2, "c0"), (1, 1, "c1")]
    assert len({name for names in fingerprints(plan) for name in names}) == 5
    assert fingerprint("ab", "c") != fingerprint("a", "bc")


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"encoders_checksum": "e2"}, "features predictions"),
        ({"precision": "bf16"}, "features predictions"),
        ({"features_dtype": "float16"}, "features predictions"),
        ({"gene_caller": "fast"}, "features predictions records"),
        ({"modelset_checksum": "m2"}, "predictions"),
        ({"input_digest": "d2"}, "records"),
        ({"chunk_length": 300}, "records"),
    ],
)
def test_a_decision_makes_anew_what_it_decides(plan, change, changed):
    other = replace(plan, decisions=replace(DECISIONS, **change))
    made = {}
    for name, before, after in zip(TABLES, fingerprints(plan), fingerprints(other), strict=True):
        assert set(before) == set(after) or not set(before) & set(after)
        made[name] = before != after
    assert made == {name: name in changed for name in TABLES}


def test_other_content_makes_its_partition_anew_and_no_other(plan):
    parts = (plan.partitions[0], PlannedPartition(1, 1, "c2"))
    other = replace(plan, partitions=parts)
    for before, after in zip(fingerprints(plan)[:2], fingerprints(other)[:2], strict=True):
        assert before[0] == after[0]
        assert before[1] != after[1]


def test_paths_do_not_decide_anything_and_versions_of_the_schema_do(plan, tmp_path, monkeypatch):
    before = fingerprints(plan)
    elsewhere = replace(plan, folder=RunFolder(tmp_path / "elsewhere"), keep_features=False)
    assert fingerprints(elsewhere) == before
    assert str(plan.folder.path) not in str(plan.as_json())
    monkeypatch.setattr(schemas, "VERSION", schemas.VERSION + 1)
    for old, new in zip(before, fingerprints(plan), strict=True):
        assert not set(old) & set(new)


def test_a_partition_is_done_when_all_tables_it_shall_leave_are_there(plan):
    task = next(plan.tasks())
    table = pa.table({"x": [1]})
    assert not task.is_done
    write_table(plan.folder.predictions(0), table, task.predictions)
    assert not task.is_done
    assert replace(task, keep_features=False).is_done
    write_table(plan.folder.features(0), table, "of something else")
    assert not task.is_done
    write_table(plan.folder.features(0), table, task.features)
    assert task.is_done
    assert not replace(task, rescore=True).is_done


@pytest.mark.parametrize(
    ("decision", "value", "said"),
    [
        ("input_digest", "d2", "input (d1, now d2)"),
        ("chunk_length", 300, "chunk length (500, now 300)"),
        ("precision", "bf16", "precision (fp32, now bf16)"),
        ("encoders_checksum", "e2", "model set (encoders) (e1, now e2)"),
    ],
)
def test_a_changed_plan_is_refused_naming_what_changed(plan, decision, value, said):
    refuse_change(plan.folder, DECISIONS, replace(DECISIONS))
    with pytest.raises(PlanChangedError) as caught:
        refuse_change(plan.folder, DECISIONS, replace(DECISIONS, **{decision: value}))
    assert f"{plan.folder.path} was planned with other {said}." in str(caught.value)
    assert "--force" in str(caught.value)


def test_a_worker_in_another_directory_finds_the_tables(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = replace(plan, folder=RunFolder(Path("out")))
    assert next(relative.tasks()).folder.path == tmp_path / "out"


def test_a_plan_by_frames_is_written_and_fingerprinted_as_ever(plan):
    """So that a run of an earlier version is resumed: these are what it wrote."""
    decisions = plan.as_json()["decisions"]
    assert decisions == {
        "input_digest": "d1",
        "chunk_length": 500,
        "partition_chunks": 1000,
        "precision": "fp32",
        "encoders_checksum": "e1",
        "modelset_checksum": "m1",
        "features_dtype": "float32",
    }
    task = next(plan.tasks())
    assert task.features == "f5dc09d9684726bb69367f484b597465"
    assert task.predictions == "837cf883c04a0067f3567556d81fb7c2"
    assert plan.records_fingerprint == "0124074a0e69232b65c2562aa513759d"


def test_lengths_of_pieces_decide_what_is_cut():
    for change in ({"piece_nt": 900}, {"overlap_nt": 90}):
        assert replace(GENES, **change).records_fingerprint != GENES.records_fingerprint
