"""Curves of an evaluation as PNG and SVG, drawn from its figures alone."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from virnuc_dask.lab.quality.figures import FALSE_POSITIVES

Content = Mapping[str, Any]

INK, FAINT = "#1f2933", "#d5dbe1"
# Okabe and Ito's colours, which colour-blind people tell apart; dashes show both of two curves that
# are the same.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 2)), (0, (1, 1)))

_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), FAINT),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "text.parse_math": False,  # names of files may hold a $
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "virnuc",
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_MOST_LETTERS = 34  # of a name
_LOW = 0.01  # up to this rate of false positives a ROC curve is linear, then by powers of ten

Shown = Sequence[tuple[dict[str, Any], Any]]  # of each evaluation: its colour and dashes, its data


class Plot(NamedTuple):
    """A plot's file name without ending, what it shows, and the two files."""

    name: str
    caption: str
    png: bytes
    svg: str

    def inline(self) -> Markup:
        """The SVG as an element of a page: in the page's colours, its ids its own."""

        def own(tag: re.Match[str]) -> str:
            found = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{self.name}-", tag[0])
            return found.replace(INK, "currentColor").replace(FAINT, "var(--line)")

        svg = self.svg[self.svg.index("<svg") :]
        box = re.search(r'viewBox="[^"]*"', svg)
        label = Markup.escape(self.caption)
        head = f'<svg {box[0] if box else ""} role="img" aria-label="{label}">'
        return Markup(head + re.sub(r"<[^>]+>", own, svg[svg.index(">") + 1 :]))


def draw(content: Content) -> Iterator[Plot]:
    """All plots of an evaluation; those without data in any of its sets are left out."""
    for name, (caption, data_of, paint) in _SKETCHES.items():
        found = [(n, e["label"], data_of(e)) for n, e in enumerate(content["evaluations"])]
        having = [(n, label, data) for n, label, data in found if data]
        if having:
            shown = [(_look(n), data) for n, _, data in having]
            labels = [_short(label) for _, label, _ in having]
            yield Plot(name, caption, *_render(paint, labels, shown))


def plot_names() -> list[str]:
    """Names of all plots that an evaluation can have."""
    return list(_SKETCHES)


def _render(
    paint: Callable[[Axes, Shown], None], names: Sequence[str], shown: Shown
) -> tuple[bytes, str]:
    png, svg = io.BytesIO(), io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name's letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(4.8, 4.0), dpi=160, layout="constrained")
        paint(figure.add_subplot(), shown)
        keys = [Line2D([], [], **look) for look, _ in shown]
        figure.legend(keys, names, loc="outside lower left", ncols=min(2, len(shown)))
        figure.savefig(png, format="png", facecolor="white", metadata={"Software": None})
        figure.savefig(svg, format="svg", transparent=True, metadata=_NO_METADATA)
    return png.getvalue(), svg.getvalue()


def _roc(axes: Axes, shown: Shown) -> None:
    for rate in FALSE_POSITIVES:
        axes.axvline(rate, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    _lines(axes, shown, "False positive rate", "Recall")
    axes.set_xscale("symlog", linthresh=_LOW)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def _precision_recall(axes: Axes, shown: Shown) -> None:
    axes.axhline(shown[0][1][1][-1], color=FAINT, linewidth=1)  # all called: the share of viruses
    _lines(axes, shown, "Recall", "Precision")


def _reliability(axes: Axes, shown: Shown) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    lines = []
    for look, bins in shown:
        said, so = ([b[name] for b in bins] for name in ("mean_probability", "share_virus"))
        most = max(b["n"] for b in bins)
        areas = [8 + 60 * b["n"] / most for b in bins]
        axes.scatter(said, so, s=areas, color=look["color"], linewidths=0, zorder=3)
        lines.append((look, (said, so)))
    _lines(axes, lines, "Probability", "Share of viruses")


def _pairs(axes: Axes, shown: Shown) -> None:
    first = shown[0][1]
    lane = 0.6 / len(shown)
    for place, (look, pairs) in enumerate(shown):
        for row, pair in enumerate(pairs):
            if pair["auroc"] is not None:
                y = row + lane * (place - (len(shown) - 1) / 2)
                ends = pair["auroc_interval"] or [pair["auroc"]] * 2
                axes.plot(ends, [y, y], color=look["color"], linewidth=1.4)
                axes.plot(pair["auroc"], y, "o", color=look["color"], markersize=6)
    names = [f"{_short(pair['virus'])}\nagainst {_short(pair['others'])}" for pair in first]
    axes.set_yticks(range(len(first)), names, fontsize=7.5)
    axes.set_ylim(len(first) - 0.5, -0.5)
    axes.set_xlim(right=1.005)
    axes.set_xlabel("AUROC")


_SKETCHES: dict[str, tuple[str, Callable[[Content], Any], Callable[[Axes, Shown], None]]] = {
    "roc": (
        "ROC curve, linear up to 1 % false positives, then by powers of ten; the dotted lines mark "
        "1 % and 5 %.",
        lambda e: e["curves"]["roc"] if e["curves"]["roc"][0] else None,
        _roc,
    ),
    "precision-recall": (
        "Precision-recall curve, at the share of viruses in these files.",
        lambda e: e["curves"]["precision_recall"] if e["curves"]["roc"][0] else None,
        _precision_recall,
    ),
    "reliability": (
        "Reliability: of records with a probability near p, a share of p should be viral, were "
        "both classes equally frequent. Larger dots stand for more of them.",
        lambda e: (e["calibration"] or {}).get("bins"),
        _reliability,
    ),
    "pairs": (
        "AUROC of each viral group against each other one, with its 95 % interval.",
        lambda e: e["pairs"] if len(e["pairs"]) > 1 else None,
        _pairs,
    ),
}


def _lines(axes: Axes, shown: Shown, x: str, y: str) -> None:
    for look, curve in shown:
        axes.plot(*curve, **look)
    axes.set(xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))


def _look(number: int) -> dict[str, Any]:
    """Colour and dashes of the evaluation with this number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[(number + number // len(COLOURS)) % len(DASHES)],
        "linewidth": 1.8,
    }


def _short(name: str) -> str:
    """A name that fits; matplotlib leaves names out of a legend that begin with ``_``."""
    fitting = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
    return f" {fitting}" if fitting.startswith("_") else fitting
