"""constraints.txt, the lock: it pins all that pyproject.toml names, within its bounds."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a build of torch for GPUs brings along is torch's own matter.
OF_TORCH = ("nvidia-", "cuda-", "triton")
WITHOUT_ITS_OWN = "dask-cuda"  # installed so: see the Makefile


def lines_of(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def named() -> list[Requirement]:
    """What pyproject.toml asks for, extras too, but for itself."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    every = [Requirement(line) for line in lines]
    return [each for each in every if each.name != PROJECT["name"]]


def pins() -> dict[str, list[str]]:
    """Versions by name; more than one where a marker decides."""
    found: dict[str, list[str]] = {}
    for pin in lines_of("constraints.txt"):
        (version,) = (str(each) for each in pin.specifier)
        assert re.fullmatch(r"==[\w.!+]+", version), pin
        found.setdefault(canonicalize_name(pin.name), []).append(version.removeprefix("=="))
    return found


def needed(requirement: Requirement, seen: set[str]) -> Iterator[str]:
    """Names of a requirement and of all that it needs here, as far as that is installed."""
    name = canonicalize_name(requirement.name)
    if name in seen or name.startswith(OF_TORCH):
        return
    seen.add(name)
    yield name
    try:
        below = [] if name == WITHOUT_ITS_OWN else list(map(Requirement, requires(name) or ()))
    except PackageNotFoundError:
        return
    for each in below:
        extras = ["", *requirement.extras]
        if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in extras):
            yield from needed(each, seen)


@pytest.mark.parametrize("requirement", named(), ids=str)
def test_what_is_named_is_pinned_within_its_bounds(requirement):
    versions = pins()[canonicalize_name(requirement.name)]
    assert [version for version in versions if version not in requirement.specifier] == []


def test_what_is_needed_below_is_pinned_too():
    seen: set[str] = set()
    every = {name for each in named() for name in needed(each, seen)}
    assert sorted(every - set(pins())) == []


def test_the_packages_of_gpus_are_pinned():
    assert {each.name for each in lines_of("tests/cuda-requirements.txt")} <= set(pins())
