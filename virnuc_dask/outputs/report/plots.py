"""The plots of a report, by Bokeh; nothing is fetched from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from virnuc_dask.outputs.report.contigs import Contigs, Digest
from virnuc_dask.stages.calls import OTHERS, UNSURE, VIRUS, VIRUS_REGION, CallRule

# Of Okabe and Ito's palette, which people with colour blindness tell apart.
COLOURS = {VIRUS: "#d55e00", VIRUS_REGION: "#e69f00", OTHERS: "#0072b2", UNSURE: "#8a8f98"}
_LONGEST_ID = 80
_GREY = "#7b8794"  # readable on white and on black


@dataclass(frozen=True)
class Plots:
    """Bokeh's code, a script that draws, and the place of each plot."""

    code: Markup
    script: Markup
    places: dict[str, Markup]
    points: int


def draw(digest: Digest, rule: CallRule) -> Plots:
    """Draw how the calls are distributed, and length against what they go by."""
    from bokeh.embed import components
    from bokeh.resources import INLINE

    figures = {"values": _histogram(digest), "lengths": _scatter(digest, rule)}
    script, places = components(figures, wrap_script=False)
    # Nothing of this comes from a file but ids, which Bokeh escapes.
    code = Markup("\n".join(INLINE.js_raw[:1]))
    marked = {name: Markup(place) for name, place in places.items()}
    return Plots(code, Markup(script), marked, sum(map(len, digest.drawn)))


def _figure(label: str, **options: Any) -> Any:
    from bokeh.plotting import figure

    drawn = figure(
        height=320,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_scroll=None,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        **options,
    )
    drawn.xaxis.axis_label = label
    drawn.toolbar.logo = None
    drawn.grid.grid_line_color, drawn.grid.grid_line_alpha = _GREY, 0.25
    for axis in drawn.axis:
        axis.axis_label_text_color = axis.major_label_text_color = _GREY
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = _GREY
    return drawn


def _histogram(digest: Digest) -> Any:
    drawn = _figure(digest.by, y_axis_label="records")
    top = np.zeros_like(digest.histogram[VIRUS])
    borders = np.linspace(0, 1, len(top) + 1)
    for call, count in digest.histogram.items():
        if count.any():
            drawn.quad(
                left=borders[:-1],
                right=borders[1:],
                bottom=top,
                top=top + count,
                color=COLOURS[call],
                line_color=None,
                legend_label=call,
            )
            top = top + count
    _legend(drawn)
    return drawn


def _scatter(digest: Digest, rule: CallRule) -> Any:
    from bokeh.models import HoverTool

    drawn = _figure("length (nt)", y_axis_label=digest.by, x_axis_type="log", y_range=(-0.03, 1.03))
    for contigs in digest.drawn:
        for call in np.unique(contigs.call):
            _dots(drawn, contigs.take(contigs.call == call), str(call))
    if rule.fdr is None and digest.drawn:
        _threshold(drawn, digest, rule)
    tips = [("record", "@id"), ("length", "@length{0,0} nt"), (digest.by, "@value{0.000}")]
    drawn.add_tools(HoverTool(tooltips=tips))
    _legend(drawn)
    return drawn


def _dots(drawn: Any, contigs: Contigs, call: str) -> None:
    from bokeh.models import ColumnDataSource

    columns = {
        "id": [record_id[:_LONGEST_ID] for record_id in contigs.record_id],
        "length": contigs.length_nt,
        "value": np.round(contigs.value, 4),
    }
    dots = {"size": 6, "fill_alpha": 0.55, "line_color": None, "color": COLOURS[call]}
    drawn.scatter("length", "value", source=ColumnDataSource(columns), legend_label=call, **dots)


def _threshold(drawn: Any, digest: Digest, rule: CallRule) -> None:
    """A line from which on records are called virus."""
    length = np.geomspace(max(digest.shortest_nt, 1), max(digest.longest_nt, 2), 60)
    height = rule.threshold(length) if rule.contig_model else np.full(len(length), 0.5)
    drawn.line(length, height, color=_GREY, line_dash="dashed", legend_label="called virus above")


def _legend(drawn: Any) -> None:
    if not drawn.legend:
        return
    drawn.legend.background_fill_alpha = 0
    drawn.legend.border_line_alpha = 0
    drawn.legend.label_text_color = _GREY
    drawn.legend.orientation = "horizontal"
    drawn.add_layout(drawn.legend[0], "above")
