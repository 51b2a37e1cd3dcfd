"""The model card of a set that reads genes, from its figures."""

from __future__ import annotations

from typing import Any

from virnuc_dask.lab.contig_figures import PAIRS
from virnuc_dask.lab.quality.report import render
from virnuc_dask.lab.recipe import Recipe

_TESTS = {
    "genes, new groups": "Groups that were held out whole",
    "genes, new species": "New species of groups that were trained on",
    "genes, prophages": "Prophages beside other contigs of their hosts' genera",
    "frames, new groups": "Short pieces by frames, groups that were held out whole",
    "frames, new species": "Short pieces by frames, new species of groups that were trained on",
    "frames, prophages": "Short pieces of prophages by frames",
}
_REGIONS = {
    "regions, new groups": "Regions: phages put into prokaryotes, groups that were held out whole",
    "regions, new species": "Regions: new species of groups that were trained on",
}


def card(recipe: Recipe, found: dict[str, Any], called: tuple[tuple[float, float], ...]) -> str:
    """Markdown: what the set is, how it was measured, and how good it is."""
    values = {"recipe": recipe, "found": found, "called": called}
    return render("pretrained.md", **values, tests=_TESTS, regions=_REGIONS, pairs=PAIRS)
