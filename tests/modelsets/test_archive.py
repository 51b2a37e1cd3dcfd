"""Model sets passed on as one file, and taken from it."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from virnuc_dask.errors import ModelSetError, UsageError
from virnuc_dask.modelsets.archive import add, export
from virnuc_dask.modelsets.manifest import find, kept, names, read_info, verify
from virnuc_dask.modelsets.source import ModelSource


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VIRNUC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def archive(parity_modelset, tmp_path) -> Path:
    export(parity_modelset, tmp_path / "parity.tar")
    return tmp_path / "parity.tar"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_set_comes_back_as_it_was(command, parity_modelset, tmp_path):
    path = tmp_path / "p.tar"
    code, out, _ = command("models", "export", parity_modelset, path)
    assert (code, f"{path.stat().st_size:,} bytes" in out) == (0, True)
    code, out, _ = command("models", "add", path)
    assert (code, "--model parity uses it" in out) == (0, True)
    assert files_of(find("parity")) == files_of(parity_modelset)
    assert {p.stat().st_mode & 0o444 for p in find("parity").iterdir()} == {0o444}
    assert command("models", "verify", "parity")[0] == 0
    assert names() == ["mini", "parity"]


def test_the_same_set_is_the_same_bytes(archive, parity_modelset, tmp_path):
    copy = Path(shutil.copytree(parity_modelset, tmp_path / "copy", copy_function=shutil.copyfile))
    for path in copy.iterdir():
        path.chmod(0o600)
        os.utime(path, (1, 1))
    (copy / "notes.txt").write_text("mine alone")
    export(copy, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_nothing_is_replaced(archive, parity_modelset, home):
    with pytest.raises(UsageError, match=r"parity\.tar: exists already"):
        export(parity_modelset, archive)
    folder, _ = add(archive)
    (folder / "README.md").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        add(archive)
    assert (folder / "README.md").read_text() == "mine"
    assert add(archive, "other")[0] == kept() / "other"
    assert sorted(path.name for path in kept().iterdir()) == ["other", "parity"]


@pytest.mark.parametrize("name", ["mini", "../up", "a/b", "..", ".hidden", "-x", "a\nb"])
def test_a_name_that_is_no_folders_or_an_embedded_sets_is_refused(archive, name):
    with pytest.raises(UsageError, match="cannot be called"):
        add(archive, name)
    assert list(kept().iterdir()) == []


def test_a_damaged_set_is_not_passed_on(parity_modelset, tmp_path):
    copy = Path(shutil.copytree(parity_modelset, tmp_path / "copy"))
    with (copy / "peptide.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
    with pytest.raises(ModelSetError, match="damaged, its SHA-256"):
        export(copy, tmp_path / "out.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, 3 if kind == tarfile.REGTYPE else 0
    return made


EXTRA = {
    "above": member("../escaped"),
    "absolute": member("/tmp/escaped"),
    "in a folder": member("a/b"),
    "a folder": member("a", tarfile.DIRTYPE),
    "a link": member("a", tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link": member("a", tarfile.LNKTYPE, "modelset.json"),
    "a device": member("a", tarfile.CHRTYPE),
    "a pipe": member("a", tarfile.FIFOTYPE),
    "twice": member("README.md"),
    "of no use": member("sitecustomize.py"),
    "no name": member("."),
}


@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
def test_an_archive_that_holds_anything_else_is_refused(archive, home, extra):
    with tarfile.open(archive, "a") as packed:
        packed.addfile(extra, io.BytesIO(b"abc"))
    before = sorted(home.parent.rglob("*"))
    with pytest.raises(ModelSetError, match=r"parity\.tar: refused"):
        add(archive)
    assert sorted(home.parent.rglob("*")) == sorted([*before, home, kept()])


def test_an_archive_of_very_many_files_is_refused(archive):
    with tarfile.open(archive, "a") as packed:
        for number in range(100):
            packed.addfile(member(f"{number}"), io.BytesIO(b"abc"))
    with pytest.raises(ModelSetError, match="refused"):
        add(archive)


@pytest.mark.parametrize("lost", [slice(700_000, None), slice(100_000, 100_100), slice(0, None)])
def test_a_damaged_archive_is_refused(archive, lost):
    content = bytearray(archive.read_bytes())
    content[lost] = b"" if lost.stop is None else bytes(100)
    archive.write_bytes(content)
    with pytest.raises(ModelSetError):
        add(archive)
    assert list(kept().iterdir()) == []


def test_a_compressed_archive_could_unfold_and_is_refused(archive, command, tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        packed.add(archive, "modelset.json")
    code, _, err = command("models", "add", tmp_path / "x.tar.gz")
    assert (code, "damaged, or not what `models export` writes" in err) == (4, True)
    assert command("models", "add", tmp_path / "none.tar")[0] == 3


def test_a_set_of_a_name_is_found_after_a_folder_of_it(archive, parity_modelset, monkeypatch):
    folder, info = add(archive)
    verify(folder, read_info(folder))
    monkeypatch.chdir(folder.parent.parent)
    assert find("parity") == folder
    assert ModelSource.of("parity", info).name == str(folder), "for workers, who have other homes"
    shutil.copytree(parity_modelset, "parity")
    assert find("parity") == Path("parity").resolve()
    assert info.checksum == read_info(find("parity")).checksum
