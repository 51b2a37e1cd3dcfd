import struct
from xml.etree import ElementTree

import pytest

from virnuc_dask.lab.quality.plots import draw

HOSTILE = "_a $x_{$ <b>&amp; ☣ 字"


@pytest.fixture(scope="module")
def plots(made_up_run, content_of):
    """Of a set of that label, one without a calibration and one that reads genes."""
    runs = [{"calibrated": True}, {"calibrated": False}, {"calibrated": True, "genes": True}]
    content = content_of(*(made_up_run(**how) for how in runs), label=HOSTILE)
    return {plot.name: plot for plot in draw(content)}


def texts(plot):
    elements = ElementTree.fromstring(plot.svg).iter()
    return ["".join(e.itertext()).strip() for e in elements if e.tag.endswith("}text")]


def test_every_level_has_its_plots(plots):
    of_all = {f"{kind}-{level}" for kind in ("roc", "precision-recall")
              for level in ("frames", "chunks", "contigs")}  # fmt: skip
    of_some = {f"{kind}-{level}" for kind in ("roc-low", "reliability")
               for level in ("chunks", "contigs")}  # fmt: skip
    assert set(plots) == of_all | of_some | {"pairs", "pairs-contigs"}
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", plot.png[16:24])
        assert (width > 600, height > 400) == (True, True)
        assert ElementTree.fromstring(plot.svg).tag.endswith("}svg")


def test_sets_are_in_a_plot_by_their_names_and_colours(plots):
    shown = texts(plots["roc-chunks"])
    assert HOSTILE in shown
    assert "other 1" in shown
    assert "#0072b2" in plots["roc-chunks"].svg
    assert "#d55e00" in plots["roc-chunks"].svg


def test_a_set_is_in_the_plots_of_what_it_has(plots):
    assert "other 1" not in texts(plots["reliability-contigs"]), "it has no calibration"
    kinds = ("roc", "roc-low", "precision-recall", "reliability", "pairs")
    assert {name for name, plot in plots.items() if "other 2" in texts(plot)} == {
        f"{kind}-contigs" for kind in kinds
    }


def test_what_has_no_figures_is_not_drawn(made_up_run, content_of):
    content = content_of(made_up_run(calibrated=False))
    (e,) = content["evaluations"]
    for level in ("frames", "contigs"):
        e["curves"][level] = {"roc": [[], []], "precision_recall": [[], []]}
    e["pairs"] = {level: pairs[:1] for level, pairs in e["pairs"].items()}
    first, *rest = draw(content)
    names = [plot.name for plot in (first, *rest)]
    assert names == ["roc-chunks", "roc-low-chunks", "precision-recall-chunks"]
    assert next(draw(content)) == first, "the same figures give the same plots"
