"""The page ``/virnuc`` of a scheduler's dashboard; imported where there is bokeh."""

from __future__ import annotations

import time
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import (
    ColumnDataSource,
    DataTable,
    Div,
    HoverTool,
    HTMLTemplateFormatter,
    NumberFormatter,
    NumeralTickFormatter,
    TableColumn,
)
from bokeh.palettes import Category10
from bokeh.plotting import figure
from distributed.dashboard.components import DashboardComponent, add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.core import BokehApplication
from distributed.dashboard.scheduler import template_variables
from tornado.ioloop import IOLoop

from virnuc_dask.cluster.dashboard.monitor import PAGE, RunMonitor, monitors_of
from virnuc_dask.cluster.dashboard.shown import event_rows, head, worker_rows
from virnuc_dask.cluster.dashboard.timeline import Timeline

_EVERY_MS = 1000
_GRACE_S = 5.0  # in which pages that are open show the end of the run
_LINES = 10  # workers drawn, those that did most
_ROW_PX = 26


# Of a table's columns: field, title, width, and how a value is shown: as text, escaped, as a bar of
# percents, as bytes, or as a number.
_TEXT = '<span title="<%- value %>"><%- value %></span>'
_BAR = (
    '<div style="background: linear-gradient(to right, #9ad5bd <%= value %>%, transparent '
    '<%= value %>%)"><%= value %> %</div>'
)
_BYTES = '<%= value == null ? "-" : Math.round(value / 1e6).toLocaleString("en") + " MB" %>'
_WORKER_COLUMNS = (
    ("worker", "worker", 80, _TEXT),
    ("device", "device", 170, _TEXT),
    ("use", "use", 80, _BAR),
    ("rate", "rows/s", 60, "0,0"),
    ("in_work", "in work", 60, "0"),
    ("partitions", "partitions", 70, "0,0"),
    ("memory", "memory", 80, _BYTES),
    ("gpu_memory", "GPU memory", 80, _BYTES),
    ("weights", "weights", 80, _BYTES),
    ("kept", "model set", 200, _TEXT),
    ("loads", "loads", 50, "0,0"),
    ("idle", "GPU idle, s", 70, "0,0.0"),
    ("celsius", "GPU °C", 60, "0"),
)
_EVENT_COLUMNS = (
    ("time", "UTC", 70, _TEXT),
    ("what", "what", 100, "<b><%- value %></b>"),
    ("text", "event", 1200, _TEXT),
)


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


def remove_page(scheduler: Any) -> None:
    """Remove the page; one that is open has some seconds to show the end."""
    template_variables(scheduler)["pages"].remove(PAGE)
    for app in _ours(scheduler):
        scheduler.http_application.applications.remove(app)
        IOLoop.current().call_later(_GRACE_S, app.stop)


def _ours(scheduler: Any) -> list[Any]:
    return [app for app in scheduler.http_application.applications if f"/{PAGE}" in _paths(app)]


def _paths(application: Any) -> set[str]:
    return set(getattr(application, "app_paths", ()))


def run_doc(scheduler: Any, extra: dict[str, Any], doc: Any) -> None:
    """Fill a page that somebody opened."""
    page = RunPage(scheduler)
    page.update()
    add_periodic_callback(doc, page, _EVERY_MS)
    doc.title = "virnuc_dask"
    doc.add_root(page.root)
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME


class RunPage(DashboardComponent):  # type: ignore[misc]
    """The newest run of a scheduler, as one viewer sees it."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._monitor: RunMonitor | None = None
        wide = [".bk-clearfix { width: 100%; }"]
        self._head = Div(sizing_mode="stretch_width", stylesheets=wide)
        self._charts = (_Chart(), _Chart())
        self._charts[-1].show_legend()  # both have the same lines
        self._workers, self._events = _table(_WORKER_COLUMNS), _table(_EVENT_COLUMNS)
        self._events.height = 12 * _ROW_PX
        charts = row(*(chart.root for chart in self._charts), sizing_mode="stretch_width")
        self.root = column(
            self._head, charts, self._workers, self._events, sizing_mode="stretch_width"
        )

    def update(self) -> None:
        """Show what is known now."""
        monitors, now = monitors_of(self._scheduler), time.time()
        self._monitor = monitors[-1] if monitors else self._monitor
        if (monitor := self._monitor) is None:
            return
        state, about = monitor.state, monitor.state.about
        until_s = state.known_until_s(now)
        self._head.text = head(monitor, len(monitors) - 1, now)
        for chart, what, rates in zip(
            self._charts, (about.scored, about.parts), (state.frames, state.chunks), strict=True
        ):
            chart.update(f"{what} a second", rates, until_s)
        workers = worker_rows(monitor, now)
        self._workers.height = _ROW_PX * (min(len(workers), 16) + 1) + 4
        _fill(self._workers, workers)
        _fill(self._events, event_rows(state))


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
        plot.add_tools(
            HoverTool(renderers=[line], mode="vline", tooltips=[("at", "@x{00:00:00}"), ("", "@y")])
        )
        plot.legend.visible = False

    def show_legend(self) -> None:
        """Name the lines, beside the chart."""
        (legend,) = self.root.legend
        legend.update(visible=True, border_line_color=None, background_fill_color=None)
        self.root.add_layout(legend, "right")

    def update(self, title: str, rates: Timeline, until_s: float) -> None:
        """Draw what is known until ``until_s``."""
        self.root.title.text = title
        times, by_worker = rates.rates(until_s)
        most = sorted(by_worker, key=lambda name: -by_worker[name].sum())[:_LINES]
        self._all.data = {"x": times, "y": sum(by_worker.values(), start=0 * times)}
        self._each.data = {
            "x": [times] * len(most),
            "y": [by_worker[name] for name in sorted(most)],
            "worker": [f"worker {name}" for name in sorted(most)],
            "color": Category10[10][: len(most)],
        }


def _table(columns: tuple[tuple[str, str, int, str], ...]) -> DataTable:
    return DataTable(
        source=ColumnDataSource({field: [] for field, *_ in columns}),
        columns=[
            TableColumn(field=field, title=title, width=width, formatter=_formatter(shown))
            for field, title, width, shown in columns
        ],
        index_position=None,
        row_height=_ROW_PX,
        sizing_mode="stretch_width",
        stylesheets=[".bk-data-table { z-index: 0; }"],  # below the menu, as Dask's own
    )


def _fill(table: DataTable, rows: list[dict[str, Any]]) -> None:
    fields = [column.field for column in table.columns]
    table.source.data = {field: [row[field] for row in rows] for field in fields}


def _formatter(shown: str) -> HTMLTemplateFormatter | NumberFormatter:
    # A new one each time: what bokeh shows belongs to one viewer.
    if "value" in shown:
        return HTMLTemplateFormatter(template=shown)
    return NumberFormatter(format=shown, nan_format="-", null_format="-")
