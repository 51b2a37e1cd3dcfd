"""SECURITY.md names the test behind each of its lines."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_is_there():
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", page))
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 12
    assert all("`tests/" in row for row in rows)
