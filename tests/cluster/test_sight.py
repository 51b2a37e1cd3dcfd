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


def test_what_is_not_there_is_named_and_the_token_goes(folder, tmp_path):
    with Sight.at(folder.token) as shown:
        assert shown.refusal("mini") == ""
        assert f"does not see the model set {tmp_path}/models. Copy" in shown.refusal(
            f"{tmp_path}/models"
        )
        folder.token.write_text("of another run")
        assert f"run folder {folder.path}: another folder" in shown.refusal("mini")
    assert not folder.token.exists()
    shutil.rmtree(folder.path)
    assert f"run folder {folder.path}: there is no such folder" in shown.refusal("mini")


def test_a_token_that_comes_late_is_waited_for(folder, monkeypatch):
    """As on a network disk."""
    monkeypatch.setattr(sight, "_PATIENCE_S", 60)
    shown = Sight(folder.token, "token")
    monkeypatch.setattr(sight.time, "sleep", lambda _: folder.token.write_text("token"))
    assert shown.refusal("mini") == ""


ON_CPUS = Settings(cluster=ClusterSettings(device="cpu"))


def test_a_worker_that_does_not_see_the_folder_is_named_and_the_others_compute(
    client, tmp_path, monkeypatch
):
    fasta = tmp_path / "in.fa"
    fasta.write_text(">a\n" + "ACGTTG" * 100 + "\n")
    with monkeypatch.context() as patch:
        patch.setattr(Sight, "_is_read", lambda _: False)
        with pytest.raises(NoClusterError, match=r"worker \d \(tcp.*does not see the run folder"):
            run([fasta], tmp_path / "none", settings=ON_CPUS, client=client)
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
