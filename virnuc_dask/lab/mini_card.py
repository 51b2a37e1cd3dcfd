"""The model card of a set that reads genes, from its figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from virnuc_dask.lab.contig_figures import PAIRS
from virnuc_dask.lab.recipe import Recipe

_TESTS = {
    "genes, new groups": "Groups that were held out whole",
    "genes, new species": "New species of groups that were trained on",
    "genes, prophages": "Prophages beside other contigs of their hosts' genera",
    "frames, new groups": "Short pieces by frames, groups that were held out whole",
    "frames, new species": "Short pieces by frames, new species of groups that were trained on",
    "frames, prophages": "Short pieces of prophages by frames",
}


def card(recipe: Recipe, found: dict[str, Any], called: tuple[tuple[float, float], ...]) -> str:
    """Markdown: what the set is, how it was measured, and how good it is."""
    lines = [
        f"# {recipe.name} {recipe.version}",
        "",
        "A model set that reads genes. A contig is called virus from a probability on that one in "
        "a hundred contigs of prokaryotes of its length reaches: "
        + ", ".join(f"{chance:.2f} at {length:,.0f} nt" for length, chance in called)
        + ".",
        "",
        "All figures are of the recipe, trained without the contigs that it was measured on. The "
        "set that is here was then trained with the same recipe on everything, these contigs too.",
        "",
        *([recipe.notes.strip(), ""] if recipe.notes else []),
    ]
    for name, title in _TESTS.items():
        if name in found:
            lines += [f"## {title}", "", *_tables(found[name])]
    return "\n".join(lines)


def _tables(of: dict[str, Any]) -> Iterator[str]:
    yield "| contigs | nt | viruses, others | AUROC | recall at 1 % / 5 % false |"
    yield "|---|---|---|---|---|"
    for pair in PAIRS:
        for length, measured in of["by_length"].items():
            if pair in measured:
                m = measured[pair]
                yield (
                    f"| {pair} | {length} | {m['viruses']}, {m['others']} | {m['auroc']:.3f} "
                    f"| {m['recall_at_1']:.2f} / {m['recall_at_5']:.2f} |"
                )
    yield ""
    yield from _q_values(of["by_length"])
    yield "| kind | contigs | called virus | unsure | called virus a megabase |"
    yield "|---|---|---|---|---|"
    for kind, m in of["calls"].items():
        yield (
            f"| {kind} | {m['contigs']} | {m['virus']:.1%} | {m['unsure']:.1%} "
            f"| {m['virus_a_megabase']:.2f} |"
        )
    yield ""


def _q_values(by_length: dict[str, Any]) -> Iterator[str]:
    yield "| nt | calibration error | share of viruses | false among q ≤ 0.1 | recall |"
    yield "|---|---|---|---|---|"
    for length, measured in by_length.items():
        for share, m in measured.get("q_values", {}).items():
            error = measured["calibration_error"]
            yield (
                f"| {length} | {error:.3f} | {float(share):.0%} | {m['fdr']:.3f} "
                f"| {m['recall']:.2f} |"
            )
    yield ""
