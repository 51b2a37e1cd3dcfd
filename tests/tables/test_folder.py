import errno
import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from virnuc_dask.errors import BadOutputError, OutputExistsError, OutputInUseError
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import is_done, write_table

TABLES = ["partitions", "features", "predictions"]
OUTPUTS = ("contigs.tsv", "virus.fasta", "chunks.parquet")
TABLE = pa.table({"a": [1]})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder that exists and is empty."""
    out = RunFolder(tmp_path / "out")
    out.path.mkdir()
    return out


@pytest.fixture
def used(folder: RunFolder) -> RunFolder:
    """A run folder with a finished run in it."""
    folder.prepare(resume=False, force=False)
    folder.log.write_text('{"time": "now", "event": "run_started"}\n')
    for path in (folder.partition(0), folder.features(0), folder.predictions(0), folder.records):
        write_table(path, TABLE, "made from this")
    folder.unfinished.mkdir()
    (folder.unfinished / "part-00000.rows-0-5.0123456789ab.attempt").touch()
    (folder.path / ".contigs.tsv.0123456789ab.part").write_text("half of it")
    for name in OUTPUTS:
        folder.output(name).write_text("an output")
    plan = {"partitions": [{"index": 0}]}
    finished = {"virnuc_dask": "0", "plan": plan, "outputs": folder.output_sizes()}
    folder.run_json.write_text(json.dumps(finished))
    return folder


def names(folder: RunFolder) -> set[str]:
    return {entry.name for entry in folder.path.iterdir()}


def test_an_empty_folder_gets_its_tables(folder):
    folder.prepare(resume=False, force=False)
    assert names(folder) == set(TABLES)
    assert folder.partition(3).relative_to(folder.path) == Path("partitions/part-00003.parquet")
    with RunFolder(folder.path / "deep" / "out").held():
        pass


def test_the_folder_of_files_that_a_workflow_manager_expects_is_no_strangers(folder):
    (folder.path / "multiqc").mkdir()
    with folder.held():
        folder.prepare(resume=False, force=False)
    assert folder.partition(0).parent.is_dir()


def test_an_earlier_run_needs_resume_or_force_and_resume_keeps_everything(used):
    before = content(used.path)
    with pytest.raises(OutputExistsError, match=r"--resume.*--force"):
        used.prepare(resume=False, force=False)
    used.prepare(resume=True, force=False)
    assert content(used.path) == before


@pytest.mark.parametrize("left", ["partition", "features", "predictions"])
def test_without_a_plan_computed_tables_need_resume_or_force_and_partitions_do_not(folder, left):
    folder.prepare(resume=False, force=False)
    folder.log.write_text('{"time": "now", "event": "run_started"}\n')
    getattr(folder, left)(0).write_text("a table")
    if left == "partition":
        folder.prepare(resume=False, force=False)
        return
    with pytest.raises(OutputExistsError, match="--resume"):
        folder.prepare(resume=False, force=False)


def test_force_keeps_everything_until_another_plan_stands(used):
    before = content(used.path)
    used.prepare(resume=False, force=True)
    assert content(used.path) == before
    with pytest.raises(ValueError, match="inside"):
        plan_anew(used, ValueError("inside"))
    assert content(used.path) == before


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def plan_anew(folder: RunFolder, error: Exception | None = None) -> None:
    """Plan two partitions, and fail before the plan stands, or not."""
    with folder.planning() as stage:
        for path in (stage.partition(0), stage.partition(1), stage.records):
            write_table(path, TABLE, "new")
        if error is not None:
            raise error
        folder.require_free(2)
        plan = {"partitions": [{"index": 0}, {"index": 1}]}
        stage.run_json.write_text(json.dumps({"virnuc_dask": "0", "plan": plan}))


def test_another_plan_removes_what_a_run_left_but_its_log(used):
    used.prepare(resume=False, force=True)
    plan_anew(used)
    assert names(used) == {*TABLES, "run.json", "run.log.jsonl"}
    tables = {path.name for path in (used.path / "partitions").iterdir()}
    assert tables == {"part-00000.parquet", "part-00001.parquet", "records.parquet"}
    assert is_done(used.partition(0), "new")
    assert not any(entry for name in TABLES[1:] for entry in (used.path / name).iterdir())


def test_another_plan_removes_nothing_that_is_not_a_runs(used):
    mine = ("notes.txt", "plots/a.png", "features/my_experiment.npy", "features/part-00001.txt")
    mine += ("unfinished/part-9", ".notes.part", "mine.attempt", "partitions/part-00009.parquet")
    for name in mine:
        (used.path / name).parent.mkdir(exist_ok=True)
        (used.path / name).write_text("mine")
    used.prepare(resume=False, force=True)
    plan_anew(used)
    used.remove()
    assert content(used.path) == dict.fromkeys(mine, b"mine")


def kill_at(change: int, monkeypatch) -> None:
    """Nothing after so many changes to a folder happens."""
    left = iter(range(change))

    def counted(change):
        def changing(*given, **way):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return change(*given, **way)

        return changing

    for name in ("unlink", "replace", "rmdir", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


def test_a_kill_while_a_run_is_replaced_leaves_the_old_or_the_new_one(used, tmp_path, monkeypatch):
    before, outcomes = content(used.path), []
    for change in range(100):
        folder = RunFolder(Path(shutil.copytree(used.path, tmp_path / str(change))))
        try:
            with monkeypatch.context() as patch:
                kill_at(change, patch)
                plan_anew(folder)
            break
        except KeyboardInterrupt:
            outcomes.append("old")
        with folder.held():  # whoever comes next ends what was begun
            pass
        (folder.path / ".lock").unlink()
        if content(folder.path) != before:
            outcomes[-1] = "new"
            assert names(folder) == {*TABLES, "run.json", "run.log.jsonl"}
            assert is_done(folder.partition(1), "new")
            assert not folder.features(0).exists()
    assert outcomes == sorted(outcomes, reverse=True)
    assert min(outcomes.count("old"), outcomes.count("new")) > 5


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "name",
    ["failed.tsv", "contigs.tsv", "prediction_results.txt/mine", "features/part-00001.parquet"],
)
def test_a_file_of_others_under_one_of_our_names_is_refused_by_name(used, name, force):
    path = used.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("no output of ours")
    before = content(used.path)

    def begin() -> None:
        used.prepare(resume=not force, force=force)
        plan_anew(used)

    with pytest.raises(OutputExistsError, match=name.partition("/")[0]):
        begin()
    assert content(used.path) == before


def test_what_is_read_is_never_replaced_whatever_it_is_called(used, tmp_path, monkeypatch):
    virus = used.output("virus.fasta")
    (tmp_path / "link.fa").symlink_to(virus)
    os.link(virus, tmp_path / "twin.fa")
    (tmp_path / "other").symlink_to(used.path)
    for name in (virus, tmp_path / "link.fa", tmp_path / "twin.fa", tmp_path / "other/virus.fasta"):
        with pytest.raises(OutputExistsError, match=r"would be lost.*virus\.fasta"):
            used.prepare(resume=False, force=True, read=["reads.fa", name])
    with virus.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        with pytest.raises(OutputExistsError, match="standard input: is read"):
            used.prepare(resume=False, force=True, read=["-"])


@pytest.mark.parametrize("name", ["run.json", "contigs.tsv", "features/mine.npy", "run.log.jsonl"])
def test_a_name_of_ours_makes_no_folder_a_run(folder, name):
    path = folder.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"plan": "mine"}')
    with pytest.raises(OutputExistsError, match=f"not empty \\({name.partition('/')[0]}"):
        folder.prepare(resume=False, force=True)


def test_where_a_disk_has_no_locks_a_file_holds_the_folder(folder, monkeypatch):
    import fcntl

    for code in (errno.ENOLCK, errno.EOPNOTSUPP):

        def refused(*_, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refused)
        with (
            folder.held(),
            pytest.raises(OutputInUseError, match="writing here"),
            RunFolder(folder.path).held(),
        ):
            pass
        with folder.held():
            pass


def test_a_folder_that_cannot_be_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    for name in ("x" * 300, "a\0b", "\ud800", "file/out"):
        with (
            pytest.raises(BadOutputError, match="cannot be written"),
            RunFolder(tmp_path / name).held(),
        ):
            pass


def test_a_folder_with_strangers_and_no_run_is_refused_and_left_alone(folder):
    (folder.path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        folder.prepare(resume=True, force=True)
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"), folder.held():
        pass
    assert names(folder) == {"thesis.tex"}
    with pytest.raises(OutputExistsError, match="is a file"):
        RunFolder(folder.path / "thesis.tex").held().__enter__()
