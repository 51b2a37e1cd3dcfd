"""Whole runs on real input: the same results whatever the way, and every step told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask import Settings, load_settings, run
from virnuc_dask.errors import BadTableError, PlanChangedError
from virnuc_dask.run import predict
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.folder import RunFolder

RESULTS = (
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "contigs.tsv",
    "virus.fasta",
)
PARTITION_CHUNKS = 24
SLOW_WAYS = ((1, True), (1, False), (2, True), (2, False))


@pytest.fixture(scope="module")
def demo(parity_dir, tmp_path_factory) -> Path:
    """The beginnings of real contigs, phage lambda and bacteria: ten partitions."""
    whole_demo = parity_dir.parent / "demo.fasta.gz"
    path = tmp_path_factory.mktemp("demo") / "beginnings.fasta"
    records = (f">{record.id}\n{record.dna[:9_000]}\n" for record in read_records([whole_demo]))
    path.write_text("".join(records))
    return path


@pytest.fixture(scope="module")
def settings(parity_modelset: Path) -> Settings:
    """In this process, with the tiny transformers, in many partitions."""
    flags = {"model": str(parity_modelset), "partition_chunks": PARTITION_CHUNKS}
    flags |= {"cluster.kind": "none", "cluster.threads": 1, "cluster.dashboard_port": 0}
    return load_settings(flags=flags)


@pytest.fixture(scope="module")
def plain_run(demo, settings, tmp_path_factory):
    """What every other way has to give too."""
    return run([demo], tmp_path_factory.mktemp("plain") / "out", settings=settings)


@pytest.fixture
def copy(plain_run, tmp_path) -> Path:
    return Path(shutil.copytree(plain_run.folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def small_run(parity_dir, settings, tmp_path_factory):
    """The parity input: what it takes to compare many ways."""
    return run(
        [parity_dir / "input.fa"], tmp_path_factory.mktemp("small") / "out", settings=settings
    )


@pytest.mark.parametrize(
    ("workers", "persistent"),
    [(0, True), (0, False), *(pytest.param(*way, marks=pytest.mark.slow) for way in SLOW_WAYS)],
)
def test_workers_and_persistence_do_not_change_the_results(
    parity_dir, settings, small_run, tmp_path, workers, persistent
):
    cluster = replace(settings.cluster, kind="cpu" if workers else "none", workers=workers or None)
    changed = replace(settings, cluster=cluster, persistent_models=persistent)
    done = run([parity_dir / "input.fa"], tmp_path / "out", settings=changed)
    _assert_same_results(done.folder, small_run.folder)
    loads = [worker["model_loads"] for worker in done.summary["model_loads"]]
    partitions = done.summary["partitions"]["computed"]
    if persistent:
        assert loads == [1] * max(1, workers)
    else:
        assert sum(loads) == partitions == len(list((done.folder / "predictions").iterdir()))
    assert len(_events(done.folder, "modelset_released")) == sum(loads)
    modes = {event["mode"] for event in _events(done.folder, "modelset_loaded")}
    assert modes == {"persistent" if persistent else "per_partition"}


@pytest.mark.parametrize(
    ("kind", "residency"),
    [
        ("none", "together"),
        ("none", "in_turn"),
        pytest.param("cpu", "in_turn", marks=pytest.mark.slow),
        pytest.param("cpu", "together", marks=pytest.mark.slow),
    ],
)
def test_partitions_at_once_and_encoders_in_turn_do_not_change_the_results(
    parity_dir, settings, small_run, tmp_path, kind, residency
):
    cluster = replace(settings.cluster, kind=kind, workers=1, partitions_at_once=4)
    memory = replace(settings.memory, residency=residency)
    changed = replace(settings, cluster=cluster, memory=memory)
    done = run([parity_dir / "input.fa"], tmp_path / "out", settings=changed)
    _assert_same_results(done.folder, small_run.folder)
    assert done.dataset("predictions").count_rows() == small_run.summary["frames"]
    (loaded,) = _events(done.folder, "modelset_loaded")
    assert loaded["residency"].startswith("both" if residency == "together" else "one")
    changes = len(_events(done.folder, "encoder_loaded"))
    partitions = done.summary["partitions"]["computed"]
    if residency == "together":
        assert changes == 0
    elif kind == "none":
        assert changes == 2 * partitions
    else:
        assert 2 <= changes < partitions, "a group shares a change"
    assert done.summary["device_idle_s"] > 0
    assert len(_events(done.folder, "modelset_released")) == 1


def test_the_command_with_two_workers_gives_the_same(
    command, demo, parity_modelset, plain_run, tmp_path
):
    out, preset = tmp_path / "out", tmp_path / "preset.yaml"
    preset.write_text(f"virnuc: {{partition_chunks: {PARTITION_CHUNKS}}}")
    way = ("--model", parity_modelset, "--config", preset, "--cluster", "cpu", "--workers", 2)
    code, _, err = command("run", demo, "-o", out, *way)
    assert code == 0, err
    assert "dashboard http://127.0.0.1:" in "\n".join(err.splitlines()[:5])
    _assert_same_results(out, plain_run.folder)
    summary = json.loads((out / "run.json").read_text())["summary"]
    assert [worker["model_loads"] for worker in summary["model_loads"]] == [1, 1]
    assert {event["worker"] for event in _events(out, "partition_done")} == {"0", "1"}


def test_what_is_done_is_not_computed_again_but_a_damaged_table_is(demo, settings, plain_run, copy):
    again = run([demo], copy, settings=settings, resume=True)
    assert (again.summary["partitions"]["computed"], again.summary["model_loads"]) == (0, [])
    _assert_same_results(copy, plain_run.folder)
    predictions = RunFolder(copy).predictions(3)
    predictions.write_bytes(predictions.read_bytes()[:-9])
    again = run([demo], copy, settings=settings, resume=True)
    assert again.summary["partitions"]["computed"] == 1
    assert again.summary["embedded"] == {}, "its features were whole"
    _assert_same_results(copy, plain_run.folder)


def test_other_input_never_meets_old_results(demo, settings, copy, parity_dir):
    out = copy
    with pytest.raises(PlanChangedError, match="input"):
        run([parity_dir / "input.fa"], out, settings=settings, resume=True)
    with pytest.raises(PlanChangedError, match=r"chunk length \(500, now 300\)"):
        run([demo], out, settings=replace(settings, length=300), resume=True)


def test_predicting_from_stored_features_gives_exactly_the_scores_of_the_run(
    settings, plain_run, copy
):
    out = copy
    for name in ("predictions/part-00002.parquet", *RESULTS):
        (out / name).unlink()
    again = predict(out, settings=settings)
    assert again.summary["partitions"]["computed"] == len(list((out / "predictions").iterdir()))
    _assert_same_results(out, plain_run.folder)


def test_without_features_the_results_are_the_same_and_they_can_be_had_later(
    demo, settings, plain_run, tmp_path
):
    done = run([demo], tmp_path / "out", settings=replace(settings, features=False))
    _assert_same_results(done.folder, plain_run.folder)
    assert list((done.folder / "features").iterdir()) == []
    with pytest.raises(BadTableError, match="missing; `run --resume --features`"):
        predict(done.folder, settings=settings)
    again = run([demo], done.folder, settings=settings, resume=True)
    assert again.summary["embedded"]["frames"] == plain_run.summary["frames"]
    for path in (plain_run.folder / "features").iterdir():
        assert (done.folder / "features" / path.name).read_bytes() == path.read_bytes()


def test_features_in_half_precision_take_half_the_room_and_give_nearly_the_scores(
    demo, settings, plain_run, tmp_path
):
    half = replace(settings, features_dtype="float16")
    done = run([demo], tmp_path / "out", settings=half)
    scored = (r.dataset("predictions").to_table() for r in (done, plain_run))
    ours, expected = (table["score_virus"].to_numpy() for table in scored)
    assert 0 < np.abs(ours - expected).max() < 1e-3
    sizes = (
        sum(path.stat().st_size for path in (r.folder / "features").iterdir())
        for r in (done, plain_run)
    )
    assert next(sizes) < next(sizes)
    copy = Path(shutil.copytree(done.folder, tmp_path / "copy"))
    _assert_same_results(predict(copy, settings=settings).folder, done.folder)
    with pytest.raises(PlanChangedError, match=r"features dtype \(float16, now float32\)"):
        run([demo], done.folder, settings=settings, resume=True)


def _assert_same_results(ours: Path, expected: Path) -> None:
    for name in RESULTS:
        assert (ours / name).read_bytes() == (expected / name).read_bytes(), name


def _events(out: Path, kind: str) -> list[dict]:
    lines = (out / "run.log.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]
