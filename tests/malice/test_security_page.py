"""SECURITY.md names the files of tests that hold what it says."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_danger_has_its_tests_in_files_that_are_there():
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    assert len(rows) > 10
    for danger, _, files in rows:
        for file in files.replace("`", "").split(", "):
            assert (ROOT / file).is_file(), f"{danger}: {file}"
