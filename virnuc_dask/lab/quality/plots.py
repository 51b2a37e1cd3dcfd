"""Curves of an evaluation as PNG and SVG, drawn from its figures alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
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
    "text.parse_math": False,  # names of files may hold a $
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "virnuc",
}
_SIZE_INCHES = (4.8, 4.0)
_DPI = 160
_MOST_LETTERS = 34  # of a name
_LOW = 0.1  # the false positive rate up to which the left end of a ROC curve is drawn


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot's file name without ending, what it shows, and the two files."""

    name: str
    caption: str
    png: bytes
    svg: str


Shown = Sequence[tuple[int, Content]]  # evaluations, each with its number


@dataclass(frozen=True, slots=True)
class _Sketch:
    name: str
    caption: str
    has_data: Callable[[Content], bool]
    paint: Callable[[Axes, Shown], None]


def draw(content: Content) -> Iterator[Plot]:
    """All plots of an evaluation; those without data in any of its sets are left out."""
    for sketch in _sketches():
        shown = [(n, e) for n, e in enumerate(content["evaluations"]) if sketch.has_data(e)]
        if shown:
            yield _render(sketch, shown)


def plot_names() -> list[str]:
    """Names of all plots that an evaluation can have."""
    return [sketch.name for sketch in _sketches()]


def _sketches() -> Iterator[_Sketch]:
    for level in ("chunks", "contigs", "frames"):
        drawn = partial(_has_curve, level=level)
        yield _Sketch(
            f"roc-{level}",
            f"ROC curve of {level}; the dotted lines mark 1 % and 5 % false positives.",
            drawn,
            partial(_roc, level=level, widest=1.0),
        )
        if level != "frames":
            yield _Sketch(
                f"roc-low-{level}",
                f"The left end of the same curve: {level} at few false positives.",
                drawn,
                partial(_roc, level=level, widest=_LOW),
            )
        yield _Sketch(
            f"precision-recall-{level}",
            f"Precision-recall curve of {level}, at the share of viruses in these files.",
            drawn,
            partial(_precision_recall, level=level),
        )
    for level in ("chunks", "contigs"):
        yield _Sketch(
            f"reliability-{level}",
            f"Reliability of {level}: of those with a probability near p, a share of p should be "
            "viral, were both classes equally frequent. Larger dots stand for more of them.",
            partial(_has_probabilities, level=level),
            partial(_reliability, level=level),
        )
    for level, name in (("chunks", "pairs"), ("contigs", "pairs-contigs")):
        yield _Sketch(
            name,
            f"AUROC of {level}, each viral group against each other one, with its 95 % interval.",
            partial(_has_pairs, level=level),
            partial(_pairs, level=level),
        )


def _render(sketch: _Sketch, shown: Shown) -> Plot:
    png, svg = io.BytesIO(), io.StringIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name's letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        sketch.paint(figure.add_subplot(), shown)
        keys = [Line2D([], [], **_look(number)) for number, _ in shown]
        names = [_short(evaluation["label"]) for _, evaluation in shown]
        figure.legend(keys, names, loc="outside lower left", ncols=min(2, len(shown)))
        figure.savefig(png, format="png", facecolor="white", metadata={"Software": None})
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    return Plot(sketch.name, sketch.caption, png.getvalue(), svg.getvalue())


def _has_curve(evaluation: Content, level: str) -> bool:
    return level in evaluation["curves"] and bool(evaluation["curves"][level]["roc"][0])


def _has_probabilities(evaluation: Content, level: str) -> bool:
    return bool((evaluation["calibration"] or {}).get(level))


def _has_pairs(evaluation: Content, level: str) -> bool:
    return len(evaluation["pairs"].get(level, ())) > 1


def _roc(axes: Axes, shown: Shown, level: str, widest: float) -> None:
    for rate in FALSE_POSITIVES:
        axes.axvline(rate, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    if widest == 1:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for number, evaluation in shown:
        axes.plot(*evaluation["curves"][level]["roc"], **_look(number))
    title = f"ROC, {level}" if widest == 1 else f"ROC, {level}, few false positives"
    _frame(axes, title, "False positive rate", "Recall")
    axes.set_xlim(-0.01 * widest, widest * 1.01)


def _precision_recall(axes: Axes, shown: Shown, level: str) -> None:
    figures = shown[0][1]["levels"][level]
    share = figures["n_virus"] / (figures["n_virus"] + figures["n_others"])
    axes.axhline(share, color=FAINT, linewidth=1)
    for number, evaluation in shown:
        axes.plot(*evaluation["curves"][level]["precision_recall"], **_look(number))
    _frame(axes, f"Precision and recall, {level}", "Recall", "Precision")
    axes.set_xlim(-0.01, 1.01)


def _reliability(axes: Axes, shown: Shown, level: str) -> None:
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1)
    for number, evaluation in shown:
        bins = evaluation["calibration"][level]["bins"]
        said, so = [b["mean_probability"] for b in bins], [b["share_virus"] for b in bins]
        axes.plot(said, so, **_look(number))
        most = max(b["n"] for b in bins)
        areas = [8 + 60 * b["n"] / most for b in bins]
        axes.scatter(said, so, s=areas, color=_look(number)["color"], linewidths=0, zorder=3)
    _frame(axes, f"Reliability, {level}", "Probability", "Share of viruses")
    axes.set_xlim(-0.02, 1.02)


def _pairs(axes: Axes, shown: Shown, level: str) -> None:
    pairs = shown[0][1]["pairs"][level]
    lane = 0.6 / len(shown)
    lowest = 1.0
    for place, (number, evaluation) in enumerate(shown):
        for row, pair in enumerate(evaluation["pairs"][level]):
            if pair["auroc"] is None:
                continue
            y = row + lane * (place - (len(shown) - 1) / 2)
            low, high = pair["auroc_interval"] or (pair["auroc"], pair["auroc"])
            axes.plot([low, high], [y, y], color=_look(number)["color"], linewidth=1.4)
            axes.plot(pair["auroc"], y, "o", color=_look(number)["color"], markersize=6)
            lowest = min(lowest, low)
    names = [f"{_short(pair['virus'])}\nagainst {_short(pair['others'])}" for pair in pairs]
    axes.set_yticks(range(len(pairs)), names, fontsize=7.5)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_xlim(max(0.0, lowest - 0.05), 1.005)
    axes.grid(visible=False, axis="y")
    axes.set_title(f"{level.capitalize()} by pair of groups")
    axes.set_xlabel("AUROC")


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ylim(-0.01, 1.01)
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
