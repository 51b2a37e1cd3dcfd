"""Curves of an evaluation as PNG and SVG, drawn from its figures alone."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
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
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0),
    "text.parse_math": False,  # names of files may hold a $
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "virnuc",
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_MOST_LETTERS = 34  # of a name
_LOW = 0.1  # the false positive rate up to which the left end of a ROC curve is drawn


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


Shown = Sequence[tuple[dict[str, Any], Any]]  # of each evaluation: its colour and dashes, its data


class _Sketch(NamedTuple):
    name: str
    caption: str
    data: Callable[[Content], Any]  # of an evaluation; nothing where it has none
    paint: Callable[[Axes, Shown, str], None]
    level: str


def draw(content: Content) -> Iterator[Plot]:
    """All plots of an evaluation; those without data in any of its sets are left out."""
    for sketch in _sketches():
        having = [(n, e) for n, e in enumerate(content["evaluations"]) if sketch.data(e)]
        if having:
            names = [_short(evaluation["label"]) for _, evaluation in having]
            yield _render(sketch, names, [(_look(n), sketch.data(e)) for n, e in having])


def plot_names() -> list[str]:
    """Names of all plots that an evaluation can have."""
    return [sketch.name for sketch in _sketches()]


def _sketches() -> Iterator[_Sketch]:
    for level in ("chunks", "contigs", "frames"):
        roc = partial(_curve, level=level, kind="roc")
        caption = f"ROC curve of {level}; the dotted lines mark 1 % and 5 % false positives."
        yield _Sketch(f"roc-{level}", caption, roc, _roc, level)
        if level != "frames":
            caption = f"The left end of the same curve: {level} at few false positives."
            yield _Sketch(f"roc-low-{level}", caption, roc, partial(_roc, widest=_LOW), level)
        caption = f"Precision-recall curve of {level}, at the share of viruses in these files."
        found = partial(_curve, level=level, kind="precision_recall")
        yield _Sketch(f"precision-recall-{level}", caption, found, _precision_recall, level)
    for level in ("chunks", "contigs"):
        caption = (
            f"Reliability of {level}: of those with a probability near p, a share of p should be "
            "viral, were both classes equally frequent. Larger dots stand for more of them."
        )
        yield _Sketch(
            f"reliability-{level}", caption, partial(_bins, level=level), _reliability, level
        )
    for level, name in (("chunks", "pairs"), ("contigs", "pairs-contigs")):
        caption = (
            f"AUROC of {level}, each viral group against each other one, with its 95 % interval."
        )
        yield _Sketch(name, caption, partial(_pairs_of, level=level), _pairs, level)


def _curve(evaluation: Content, level: str, kind: str) -> Any:
    found = evaluation["curves"].get(level, {kind: [[], []]})[kind]
    return found if found[0] else None


def _bins(evaluation: Content, level: str) -> Any:
    found = (evaluation["calibration"] or {}).get(level)
    return found and found["bins"]


def _pairs_of(evaluation: Content, level: str) -> Any:
    found = evaluation["pairs"].get(level, ())
    return found if len(found) > 1 else None


def _render(sketch: _Sketch, names: Sequence[str], shown: Shown) -> Plot:
    png, svg = io.BytesIO(), io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name's letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(4.8, 4.0), dpi=160, layout="constrained")
        sketch.paint(figure.add_subplot(), shown, sketch.level)
        keys = [Line2D([], [], **look) for look, _ in shown]
        figure.legend(keys, names, loc="outside lower left", ncols=min(2, len(shown)))
        figure.savefig(png, format="png", facecolor="white", metadata={"Software": None})
        figure.savefig(svg, format="svg", transparent=True, metadata=_NO_METADATA)
    return Plot(sketch.name, sketch.caption, png.getvalue(), svg.getvalue())


def _roc(axes: Axes, shown: Shown, level: str, widest: float = 1.0) -> None:
    for rate in FALSE_POSITIVES:
        axes.axvline(rate, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    if widest == 1:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for look, curve in shown:
        axes.plot(*curve, **look)
    title = f"ROC, {level}" if widest == 1 else f"ROC, {level}, few false positives"
    _frame(axes, title, "False positive rate", "Recall", widest)


def _precision_recall(axes: Axes, shown: Shown, level: str) -> None:
    axes.axhline(shown[0][1][1][-1], color=FAINT, linewidth=1)  # all called: the share of viruses
    for look, curve in shown:
        axes.plot(*curve, **look)
    _frame(axes, f"Precision and recall, {level}", "Recall", "Precision")


def _reliability(axes: Axes, shown: Shown, level: str) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for look, bins in shown:
        said, so = [b["mean_probability"] for b in bins], [b["share_virus"] for b in bins]
        axes.plot(said, so, **look)
        most = max(b["n"] for b in bins)
        areas = [8 + 60 * b["n"] / most for b in bins]
        axes.scatter(said, so, s=areas, color=look["color"], linewidths=0, zorder=3)
    _frame(axes, f"Reliability, {level}", "Probability", "Share of viruses")


def _pairs(axes: Axes, shown: Shown, level: str) -> None:
    first = shown[0][1]
    lane = 0.6 / len(shown)
    lowest = 1.0
    for place, (look, pairs) in enumerate(shown):
        for row, pair in enumerate(pairs):
            if pair["auroc"] is None:
                continue
            y = row + lane * (place - (len(shown) - 1) / 2)
            low, high = pair["auroc_interval"] or (pair["auroc"], pair["auroc"])
            axes.plot([low, high], [y, y], color=look["color"], linewidth=1.4)
            axes.plot(pair["auroc"], y, "o", color=look["color"], markersize=6)
            lowest = min(lowest, low)
    names = [f"{_short(pair['virus'])}\nagainst {_short(pair['others'])}" for pair in first]
    axes.set_yticks(range(len(first)), names, fontsize=7.5)
    axes.set_ylim(len(first) - 0.5, -0.5)
    axes.set_xlim(max(0.0, lowest - 0.05), 1.005)
    axes.grid(visible=False, axis="y")
    axes.set_title(f"{level.capitalize()} by pair of groups")
    axes.set_xlabel("AUROC")


def _frame(axes: Axes, title: str, x: str, y: str, widest: float = 1.0) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, ylim=(-0.01, 1.01))
    axes.set_xlim(-0.01 * widest, 1.01 * widest)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))


def _look(number: int) -> dict[str, Any]:
    """Colour and dashes of the evaluation with this number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[(number + number // len(COLOURS)) % len(DASHES)],
    }


def _short(name: str) -> str:
    """A name that fits; matplotlib leaves names out of a legend that begin with ``_``."""
    fitting = name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"
    return f" {fitting}" if fitting.startswith("_") else fitting
