"""The page ``/virnuc`` of a scheduler's dashboard; imported where there is bokeh."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import ColumnDataSource, Div, HoverTool, NumeralTickFormatter
from bokeh.palettes import Category10
from bokeh.plotting import figure
from distributed.dashboard.components import add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from jinja2 import Environment, PackageLoader, StrictUndefined
from tornado.ioloop import IOLoop

from virnuc_dask.cluster.dashboard.history import PAGE, RunHistory, Timeline

_EVERY_MS = 1000
_GRACE_S = 5.0  # in which pages that are open show the end of the run
_LINES, _ROWS = 10, 100  # workers that are drawn, those that did most; and that have a row


def add_page(scheduler: Any) -> str:
    """Add the page and its place in the menu; why that cannot be done, if so."""
    application = scheduler.http_application
    dask = [app for app in application.applications if "/status" in _paths(app)]
    if not dask:
        return "the scheduler was started without a dashboard"
    if not _ours(scheduler):
        shared = template_variables(scheduler)  # by all pages: a list of those in the menu
        if PAGE not in shared["pages"]:
            shared["pages"].insert(1, PAGE)
        app = BokehApplication({f"/{PAGE}": run_doc}, scheduler, dask[0].prefix, shared)
        application.add_application(app)
        app.initialize(IOLoop.current())
        app.start()
    return ""


def remove_unused_page(scheduler: Any) -> None:
    """Remove the page unless there is a run; one that is open has some seconds to show the end."""
    if _runs(scheduler):
        return
    template_variables(scheduler)["pages"].remove(PAGE)
    for app in _ours(scheduler):
        scheduler.http_application.applications.remove(app)
        IOLoop.current().call_later(_GRACE_S, app.stop)


def _runs(scheduler: Any) -> list[RunHistory]:
    states = (getattr(plugin, "state", None) for plugin in scheduler.plugins.values())
    return [state for state in states if isinstance(state, RunHistory)]


def _ours(scheduler: Any) -> list[Any]:
    return [app for app in scheduler.http_application.applications if f"/{PAGE}" in _paths(app)]


def _paths(application: Any) -> set[str]:
    return set(getattr(application, "app_paths", ()))


def run_doc(scheduler: Any, extra: dict[str, Any], doc: Any) -> None:
    """Fill a page that somebody opened."""
    page = RunPage(scheduler)
    page.update()
    add_periodic_callback(doc, page, _EVERY_MS)
    doc.add_root(page.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME


class RunPage:
    """The newest run of a scheduler, as one viewer sees it."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._state: RunHistory | None = None
        wide = {"sizing_mode": "stretch_width"}
        self._head, self._workers, self._events = (
            Div(stylesheets=[str(PARTS.style())], **wide) for _ in range(3)
        )
        self._charts = (_Chart(), _Chart())
        self._charts[-1].name_lines()  # both have the same
        charts = row(*(chart.root for chart in self._charts), **wide)
        self.root = column(self._head, charts, self._workers, self._events, **wide)

    def update(self) -> None:
        """Show what is known now."""
        runs, now = _runs(self._scheduler), time.time()
        self._state = runs[-1] if runs else self._state
        if (state := self._state) is None:
            return
        now, units = state.ended or now, state.units
        until_s = state.known_until_s(now)
        self._head.text = str(PARTS.head(state, max(0, len(runs) - 1), now))
        self._charts[0].update(f"{units.scored} a second", state.frames_by_time, until_s)
        self._charts[1].update(f"{units.parts} a second", state.chunks_by_time, until_s)
        workers = self._scheduler.workers.values()
        shown = sorted(workers, key=lambda worker: str(worker.name))[:_ROWS]
        gpus = any(state.told(str(worker.name)).on_gpu for worker in shown)
        self._workers.text = str(PARTS.workers(state, shown, gpus, now))
        self._events.text = str(PARTS.events(state))


class _Chart:
    """A rate over time: of all workers together, and of each."""

    def __init__(self) -> None:
        self._all = ColumnDataSource({"x": [], "y": []})
        self._each = ColumnDataSource({"x": [], "y": [], "worker": [], "color": []})
        self.root = plot = figure(
            height=230, sizing_mode="stretch_width", toolbar_location=None, tools=""
        )
        plot.y_range.start = 0
        plot.xaxis.formatter = NumeralTickFormatter(format="00:00:00")
        plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[0]")
        plot.xaxis.axis_label = "since the start"
        lines = {"line_width": 1.5, "line_color": "color", "legend_field": "worker"}
        plot.multi_line("x", "y", source=self._each, **lines)
        line = plot.line(
            "x", "y", source=self._all, line_width=2.5, color="#222222", legend_label="all"
        )
        tips = [("at", "@x{00:00:00}"), ("all", "@y{0,0.[0]}")]
        plot.add_tools(HoverTool(renderers=[line], mode="vline", tooltips=tips))
        plot.legend.visible = False

    def name_lines(self) -> None:
        """Show which line is which worker's, beside the chart."""
        (legend,) = self.root.legend
        legend.update(visible=True, border_line_color=None, background_fill_color=None)
        self.root.add_layout(legend, "right")

    def update(self, title: str, rates: Timeline, until_s: float) -> None:
        """Draw what is known until ``until_s``."""
        self.root.title.text = title
        times, by_worker = rates.rates(until_s)
        most = sorted(sorted(by_worker, key=lambda name: -by_worker[name].sum())[:_LINES])
        self._all.data = {"x": times, "y": sum(by_worker.values(), start=0 * times)}
        self._each.data = {
            "x": [times] * len(most),
            "y": [by_worker[name] for name in most],
            "worker": [f"worker {name}" for name in most],
            "color": Category10[10][: len(most)],
        }


def _rate(value: float) -> str:
    if not value:
        return "-"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("virnuc_dask.cluster.dashboard", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)
_ENVIRONMENT.filters |= {
    "rate": _rate,
    "clock": _clock,
    "duration": lambda s: "-" if s is None else str(timedelta(seconds=round(s))),
    "mb": lambda size: f"{size / 1e6:,.0f} MB" if size else "-",
}
PARTS: Any = _ENVIRONMENT.get_template("page.html").module
