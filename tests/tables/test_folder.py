import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from virnuc_dask.errors import OutputExistsError, OutputInUseError
from virnuc_dask.tables.folder import RunFolder

TABLES = {"partitions", "features", "predictions"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder that exists and is empty."""
    out = RunFolder(tmp_path / "out")
    out.path.mkdir()
    return out


@pytest.fixture
def used(folder: RunFolder) -> RunFolder:
    """A run folder with an earlier run in it."""
    folder.prepare(resume=False, force=False)
    folder.run_json.write_text("{}")
    for path in (folder.partition(0), folder.features(0), folder.predictions(0), folder.records):
        path.write_text("a table")
    for name in ("contigs.tsv", "virus.fasta", "chunks.parquet", "failed.tsv", "run.log.jsonl"):
        folder.output(name).write_text("an output")
    return folder


def names(folder: RunFolder) -> set[str]:
    return {entry.name for entry in folder.path.iterdir()}


def test_files_are_numbered_within_their_table(folder):
    assert folder.partition(3).relative_to(folder.path) == Path("partitions/part-00003.parquet")
    assert folder.features(12).relative_to(folder.path) == Path("features/part-00012.parquet")
    assert folder.predictions(0).relative_to(folder.path) == Path("predictions/part-00000.parquet")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_gets_its_tables(folder, resume, force):
    folder.prepare(resume=resume, force=force)
    assert names(folder) == TABLES


def test_an_earlier_run_needs_resume_or_force(used):
    before = names(used)
    with pytest.raises(OutputExistsError, match=r"--resume.*--force"):
        used.prepare(resume=False, force=False)
    assert names(used) == before


def test_a_run_whose_input_was_refused_is_not_in_the_way(folder):
    folder.prepare(resume=False, force=False)
    folder.log.write_text("started\n")
    folder.partition(0).write_text("half of it")
    folder.prepare(resume=False, force=False)


@pytest.mark.parametrize("left", ["features", "predictions"])
def test_computed_tables_need_resume_or_force_even_without_a_plan(folder, left):
    folder.prepare(resume=False, force=False)
    getattr(folder, left)(0).write_text("a table")
    with pytest.raises(OutputExistsError):
        folder.prepare(resume=False, force=False)


def test_resume_keeps_everything(used):
    before = names(used)
    used.prepare(resume=True, force=False)
    assert names(used) == before
    assert used.features(0).read_text() == "a table"


def test_force_removes_what_a_run_left(used):
    used.prepare(resume=False, force=True)
    assert names(used) == TABLES
    assert not any(entry for name in TABLES for entry in (used.path / name).iterdir())


def test_force_removes_nothing_that_is_not_a_runs(used):
    (used.path / "notes.txt").write_text("mine")
    (used.path / "plots").mkdir()
    (used.path / "plots" / "a.png").write_text("mine")
    used.prepare(resume=False, force=True)
    assert names(used) == TABLES | {"notes.txt", "plots"}
    assert (used.path / "plots" / "a.png").read_text() == "mine"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_strangers_and_no_run_is_refused_and_left_alone(folder, resume, force):
    (folder.path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        folder.prepare(resume=resume, force=force)
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"), folder.held():
        pass
    assert names(folder) == {"thesis.tex"}


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"), RunFolder(tmp_path / "out").held():
        pass
    assert (tmp_path / "out").read_text() == "mine"


def test_holding_makes_the_folder_and_its_lock_is_no_stranger(tmp_path):
    folder = RunFolder(tmp_path / "deep" / "out")
    with folder.held():
        folder.prepare(resume=False, force=False)
    assert names(folder) >= TABLES


def test_a_folder_that_is_held_is_refused_to_others(folder):
    with FileLock(folder.path / ".lock"), pytest.raises(OutputInUseError) as caught:
        folder.held().__enter__()
    assert str(folder.path) in str(caught.value)


HOLD = """
import sys
from pathlib import Path
from virnuc_dask.errors import OutputInUseError
from virnuc_dask.tables.folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1])).held():
        print("held")
except OutputInUseError:
    print("refused")
"""


def hold_elsewhere(folder: RunFolder) -> str:
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_another_process_is_refused_while_the_folder_is_held_and_let_in_after(folder):
    with folder.held():
        assert hold_elsewhere(folder) == "refused"
    assert hold_elsewhere(folder) == "held"


def test_the_folder_is_free_again_after_an_error(folder):
    with pytest.raises(ValueError, match="inside"), folder.held():
        raise ValueError("inside")
    with folder.held():
        pass
