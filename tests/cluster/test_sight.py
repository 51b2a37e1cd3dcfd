"""Workers are asked whether they see the files of a run, before they are given anything to do."""

import json
import shutil
from pathlib import Path

import pytest

from virnuc_dask.cluster import sight
from virnuc_dask.cluster.sight import Sight
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import NoClusterError
from virnuc_dask.run import run
from virnuc_dask.tables.folder import RunFolder


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(sight, "_PATIENCE_S", 0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "out")
    folder.path.mkdir()
    return folder


def test_what_sees_the_folder_is_welcome_and_the_token_goes(folder):
    with Sight.of(folder) as shown:
        assert shown.refusal("mini") == ""
        assert folder.token.exists()
    assert not folder.token.exists()


def test_a_folder_that_is_not_there_or_is_another_one_is_named(folder):
    with Sight.of(folder) as shown:
        folder.token.write_text("of another run")
        assert f"run folder {folder.path}: another folder" in shown.refusal("mini")
        shutil.rmtree(folder.path)
        told = shown.refusal("mini")
    assert f"run folder {folder.path}: there is no such folder" in told
    assert "--out" in told


def test_a_token_that_comes_late_is_waited_for(folder, monkeypatch):
    """As on a network disk."""
    monkeypatch.setattr(sight, "_PATIENCE_S", 60)
    shown = Sight(folder.token, "token")
    monkeypatch.setattr(sight.time, "sleep", lambda _: folder.token.write_text("token"))
    assert shown.refusal("mini") == ""


def test_a_model_set_that_is_not_there_is_named(folder, tmp_path):
    with Sight.of(folder) as shown:
        told = shown.refusal(str(tmp_path / "models"))
    assert f"does not see the model set {tmp_path / 'models'}" in told
    assert "Copy it there" in told


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "in.fa"
    path.write_text(">a\n" + "ACGTTG" * 100 + "\n")
    return path


ON_CPUS = Settings(cluster=ClusterSettings(device="cpu"))


def test_a_worker_that_does_not_see_the_folder_is_named_and_the_others_compute(
    client, fasta, tmp_path, monkeypatch
):
    seen = iter([False])
    monkeypatch.setattr(Sight, "_is_read", lambda _: next(seen, True))
    out = tmp_path / "out"
    done = run([fasta], out, settings=ON_CPUS, client=client)
    assert done.summary["chunks_failed"] == 0
    events = [json.loads(line) for line in (out / "run.log.jsonl").read_text().splitlines()]
    (refused,) = (event for event in events if event["event"] == "worker_refused")
    assert f"does not see the run folder {out}" in refused["reason"]
    assert refused["address"] in refused["reason"]
    assert not (out / ".token").exists()


def test_where_no_worker_sees_the_folder_the_run_ends_before_anything_is_computed(
    client, fasta, tmp_path, monkeypatch
):
    monkeypatch.setattr(Sight, "_is_read", lambda _: False)
    with pytest.raises(NoClusterError, match=r"worker \d \(inproc.*does not see the run folder"):
        run([fasta], tmp_path / "out", settings=ON_CPUS, client=client)
    assert not (tmp_path / "out" / ".token").exists()
