"""Markdown of the repository: short enough, and its links lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LONGEST_LINE = 100
LONGEST_PAGE = 150
WHERE = (
    "*.md",
    ".github/**/*.md",
    "benchmarks/*.md",
    "docs/pages/**/*.md",
    "tests/**/*.md",
)
_CODE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\((?!https?:|#)([^)#\s]+)[^)]*\)")
PAGES = sorted(page for where in WHERE for page in ROOT.glob(where))


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _CODE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_short_lines_and_links_that_lead_somewhere(page):
    lines = [line for line in prose(page).splitlines() if not line.startswith("|")]  # no tables
    assert [line for line in lines if len(line) > LONGEST_LINE] == []
    links = _LINK.findall(prose(page))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_the_first_pages_are_short(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= LONGEST_PAGE


def test_every_page_of_the_site_is_in_its_navigation():
    site = ROOT / "docs/pages"
    nav = yaml.safe_load((ROOT / "docs/mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = re.findall(r"[\w/-]+\.md", str(nav))
    assert sorted(named) == sorted(p.relative_to(site).as_posix() for p in site.rglob("*.md"))
