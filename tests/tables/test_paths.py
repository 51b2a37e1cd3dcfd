"""Paths that users give."""

import os
from pathlib import Path

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.tables.paths import given_inputs


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n")
    return path


def test_one_path_or_several_are_taken(file):
    assert given_inputs(file) == given_inputs(str(file)) == given_inputs([file]) == (str(file),)
    assert given_inputs(["-", "a.fa"]) == ("-", "a.fa")
    with pytest.raises(UsageError, match="no input"):
        given_inputs([])


def test_nothing_is_counted_twice_whatever_it_is_called(file, monkeypatch):
    os.link(file, "twin.fa")
    Path("link.fa").symlink_to(file)
    for name in ("a.fa", "./a.fa", "twin.fa", "link.fa"):
        with pytest.raises(UsageError, match=r"given twice|same file as .*a\.fa"):
            given_inputs([file, name])
    for names in (["-", "-"], ["-", "/dev/stdin"]):
        with pytest.raises(UsageError, match="standard input is given twice"):
            given_inputs(names)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.fa", "none.fa: no such file.$"),
        ("a.fa/b.fa", "a.fa/b.fa: no such file.$"),
        ("s3://bucket/a.fa", "an address: download it first"),
        ("https://x.org/a.fa", "an address: download it first"),
        ("@files.txt", r"a shell writes them out: \$\(cat files.txt\)"),
        (".", "is a folder; give the files in it"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("\ud800", "cannot be read: the file system cannot hold such a name"),
    ],
)
def test_what_cannot_be_an_input_is_told_with_what_to_do(file, name, told):
    with pytest.raises(BadInputError, match=told):
        given_inputs([name])
