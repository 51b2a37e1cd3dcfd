"""The reference names every setting, every option and every column."""

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import click
import pytest

from virnuc_dask.cli import cli
from virnuc_dask.config import Settings
from virnuc_dask.tables import schemas

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/pages/reference"


def page(reference, name: str) -> str:
    return reference.on_page_markdown((PAGES / name).read_text(encoding="utf-8"))


def names_of(group: type, prefix: str = "") -> list[str]:
    names = []
    for field in fields(group):
        kind = get_type_hints(group)[field.name]
        if is_dataclass(kind):
            names += names_of(kind, f"{prefix}{field.name}.")
        else:
            names.append(f"{prefix}{field.name}")
    return names


def commands(group: click.Group, name: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found = {}
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        inner = commands(command, f"{each} ") if isinstance(command, click.Group) else {}
        found |= inner or {f"{name}{each}": command}
    return found


def test_every_setting_is_there_with_its_default(reference):
    text = page(reference, "settings.md")
    assert [name for name in names_of(Settings) if f"| `{name}`{{" not in text] == []
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    defaults = {row[0].split("`")[1]: row[1] for row in rows if "`" in row[0]}
    assert defaults["cluster.dashboard_port"] == "`8787`"
    assert defaults["persistent_models"] == "`true`"
    assert defaults["fdr"] == ""


@pytest.mark.parametrize("name", commands(cli))
def test_every_option_of_a_command_is_there(reference, name):
    text = page(reference, "cli.md")
    section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
    options = [option for param in commands(cli)[name].params for option in param.opts]
    shown = [option for option in options if option.startswith("-")]
    assert [option for option in shown if option not in section] == []


def test_every_table_has_its_columns_with_what_they_mean(reference):
    text = page(reference, "files.md")
    for name in [*reference.TABLES, *reference.TEXTS]:
        assert reference.columns(name) in text
    assert text.count("| float | the classifier's score for virus") == 4


def test_the_schema_of_result_tables_is_that_of_the_code_and_says_what_columns_mean(reference):
    written = json.loads((PAGES / "tables.schema.json").read_text(encoding="utf-8"))
    assert written == reference.table_schemas(), "python docs/reference.py makes it"
    assert written["version"] == str(schemas.RESULTS_VERSION)
    tables = {table["name"]: table["schema"]["fields"] for table in written["resources"]}
    kinds = {field["name"]: field["type"] for field in tables["contigs-genes"]}
    assert [kinds[name] for name in ("call", "genes", "gc")] == ["string", "integer", "number"]
    assert all(field["description"] for fields in tables.values() for field in fields)


def test_pages_of_the_root_link_to_pages_of_the_site(reference):
    linked = reference.on_page_markdown("{{ root: ARCHITECTURE.md }}")
    assert "(../background/kernels.md)" in linked
    assert "(security.md)" in linked
    assert "docs/pages" not in linked.replace("`docs/pages", "")


def test_a_page_that_fetches_something_is_refused(reference):
    for tag in ('<script src="https://x.org/a.js">', "<img alt=a src=//x.org/a.png>"):
        with pytest.raises(ValueError, match="fetched"):
            reference.on_post_page(f"<p>{tag}</p>")
    kept = '<a href="https://x.org/">there</a><script src="assets/a.js"></script>'
    assert reference.on_post_page(kept) == kept


def test_the_reference_is_made_without_torch():
    program = "import sys; sys.path.insert(0, 'docs'); import reference; reference.commands(); "
    program += "reference.settings(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
