"""Pages and model cards, from the templates in ``reports/``; pages escape what files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from virnuc_dask.lab.quality.figures import FIGURES

if TYPE_CHECKING:
    from virnuc_dask.lab.quality.plots import Plot

NONE = "\u2013"  # a figure that is not defined
_NO_BREAK = "\xa0"  # a space


def page(content: Mapping[str, Any], plots: Sequence[Plot]) -> str:
    """An evaluation as one self-contained page: nothing in it is fetched from elsewhere."""
    found = [(of, e["label"]) for e in content["evaluations"] for of in e["by_length"]]
    by_length = sorted(found, key=lambda pair: pair[0]["from_nt"])
    return render("evaluation.html", **content, by_length=by_length, plots=plots)


def render(template: str, **values: Any) -> str:
    """A template of ``reports/``, filled in."""
    return _environment().get_template(f"{template}.j2").render(figures=FIGURES, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("virnuc_dask.lab.quality", "reports"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"form": form, "percent": percent}
    return environment


def _shown(value: object) -> object:
    """A text whose letters can all be shown; others are replaced."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c == _NO_BREAK else "\ufffd" for c in value)


def form(value: float | None, how: str = ".3f") -> str:
    """A number in this form; a dash for None."""
    return NONE if value is None else format(value, how)


def percent(value: float | None) -> str:
    """A share as a percentage; a dash for None."""
    return NONE if value is None else f"{100 * value:.1f} %"
