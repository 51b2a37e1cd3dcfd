import re
import struct
from xml.etree import ElementTree

import pytest

from virnuc_dask.lab.quality.plots import draw

HOSTILE = "_a $x_{$ <b>&amp; ☣ 字"


@pytest.fixture(scope="module")
def plots(made_up_run, content_of):
    """Of a set of that label and one without a calibration."""
    content = content_of(*(made_up_run(calibrated=of) for of in (True, False)), label=HOSTILE)
    return {plot.name: plot for plot in draw(content)}


def texts(plot):
    elements = ElementTree.fromstring(plot.svg).iter()
    return ["".join(e.itertext()).strip() for e in elements if e.tag.endswith("}text")]


def test_every_plot_is_a_png_and_an_svg(plots):
    assert list(plots) == ["roc", "precision-recall", "reliability", "pairs"]
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", plot.png[16:24])
        assert (width > 600, height > 400) == (True, True)
        assert ElementTree.fromstring(plot.svg).tag.endswith("}svg")


def test_sets_are_in_the_plots_of_what_they_have_by_their_names_and_colours(plots):
    shown = texts(plots["roc"])
    assert HOSTILE in shown
    assert "other 1" in shown
    assert {"#0072b2", "#d55e00"} <= set(re.findall("#[0-9a-f]{6}", plots["roc"].svg))
    assert "other 1" not in texts(plots["reliability"]), "it has no calibration"
