"""What others package by says what pyproject.toml says: Bioconda's recipe, the Dockerfile."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, StrictUndefined
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import virnuc_dask

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# What conda calls a package otherwise.
OF_CONDA = {
    "dask": ["dask-core", "distributed"],
    "prometheus-client": ["prometheus_client"],
    "torch": ["pytorch"],
    "xxhash": ["python-xxhash"],
}


@pytest.fixture(scope="module")
def recipe():
    """The recipe as conda renders it."""
    text = (ROOT / "packaging/bioconda/meta.yaml").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined)
    given = {"PYTHON": "python", "pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    return yaml.safe_load(environment.from_string(text).render(given))


def bounds(lines):
    """Names and bounds."""
    named = (re.split(r"[ \[>=<]", line, maxsplit=1)[0] for line in lines)
    return {
        name: SpecifierSet(re.sub(r"^[^ >=<]*", "", line))
        for name, line in zip(named, lines, strict=True)
    }


def test_the_recipe_asks_for_what_the_project_does(recipe):
    project = PROJECT["project"]
    wanted = {"python": SpecifierSet(project["requires-python"])}
    for each in map(Requirement, project["dependencies"]):
        wanted |= dict.fromkeys(OF_CONDA.get(each.name, [each.name]), each.specifier)
    assert bounds(recipe["requirements"]["run"]) == wanted
    (builder,) = PROJECT["build-system"]["requires"]
    assert bounds([builder]).items() <= bounds(recipe["requirements"]["host"]).items()


def test_the_recipe_is_of_this_version_and_its_command(recipe):
    assert recipe["package"] == {"name": "virnuc-dask", "version": virnuc_dask.__version__}
    assert recipe["source"]["url"].endswith(f"virnuc_dask-{virnuc_dask.__version__}.tar.gz")
    entry = PROJECT["project"]["scripts"]["virnuc-dask"]
    assert recipe["build"]["entry_points"] == [f"virnuc-dask = {entry}"]


def test_the_dockerfile_copies_what_is_there_and_starts_without_a_shell():
    lines = (ROOT / "packaging/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in lines.splitlines() if line and line[0] != "#"]
    copied = [rest.split()[:-1] for step, rest in steps if step == "COPY" and "--from" not in rest]
    assert all((ROOT / name).exists() for names in copied for name in names)
    last = dict(steps)
    assert json.loads(last["ENTRYPOINT"]) == ["virnuc-dask"]
    assert json.loads(last["CMD"]) == ["--help"]
    assert last["USER"] == "1000:1000"
    extras = PROJECT["project"]["optional-dependencies"]
    comment = next(line for line in lines.splitlines() if line.startswith("# cpu, or an extra"))
    assert set(re.findall(r"gpu-\w+", comment)) <= set(extras)
