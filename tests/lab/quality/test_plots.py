import struct
from xml.etree import ElementTree

import pytest

from virnuc_dask.lab.quality.assessment import assess
from virnuc_dask.lab.quality.plots import draw

HOSTILE = "_a $x_{$ <b>&amp; ☣ 字"


def evaluation(run, label):
    return {"label": label} | assess(run)


@pytest.fixture(scope="module")
def plots(made_up_run):
    content = {
        "evaluations": [
            evaluation(made_up_run(calibrated=True), HOSTILE),
            evaluation(made_up_run(calibrated=False), "plain"),
        ]
    }
    return {plot.name: plot for plot in draw(content)}


def texts(svg):
    return [
        "".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")
    ]


def colours(svg):
    return {c for c in ("#0072b2", "#d55e00") if c in svg.lower()}


def test_there_is_a_curve_for_every_level(plots):
    curves = {
        f"{kind}-{level}"
        for kind in ("roc", "precision-recall")
        for level in ("frames", "chunks", "contigs")
    }
    assert curves <= set(plots)
    assert {"roc-low-chunks", "roc-low-contigs", "pairs"} <= set(plots)


def test_every_plot_is_a_png_and_an_svg(plots):
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", plot.png[16:24])
        assert width > 600
        assert height > 400
        assert ElementTree.fromstring(plot.svg).tag.endswith("}svg")


def test_all_sets_are_in_one_plot_by_their_names(plots):
    shown = texts(plots["roc-chunks"].svg)
    assert any(HOSTILE in text for text in shown)
    assert "plain" in shown
    assert len(colours(plots["roc-chunks"].svg)) == 2


def test_only_calibrated_sets_are_in_a_reliability_diagram(plots):
    shown = texts(plots["reliability-contigs"].svg)
    assert any(HOSTILE in text for text in shown)
    assert "plain" not in shown


def test_what_has_no_figures_is_not_drawn(made_up_run):
    content = {"evaluations": [evaluation(made_up_run(calibrated=False), "one")]}
    for e in content["evaluations"]:
        for level in ("frames", "contigs"):
            e["curves"][level] = {"roc": [[], []], "precision_recall": [[], []]}
        e["pairs"] = {level: pairs[:1] for level, pairs in e["pairs"].items()}
    names = {plot.name for plot in draw(content)}
    assert names == {"roc-chunks", "roc-low-chunks", "precision-recall-chunks"}


def test_a_set_that_reads_genes_is_in_the_plots_of_contigs_alone(made_up_run):
    runs = {
        "frames": made_up_run(calibrated=True),
        "genes": made_up_run(calibrated=True, genes=True),
    }
    content = {"evaluations": [evaluation(run, label) for label, run in runs.items()]}
    drawn = {plot.name for plot in draw(content) if "genes" in texts(plot.svg)}
    assert drawn == {
        "roc-contigs",
        "roc-low-contigs",
        "precision-recall-contigs",
        "reliability-contigs",
        "pairs-contigs",
    }


def test_the_same_figures_give_the_same_plots(made_up_run):
    content = {"evaluations": [evaluation(made_up_run(calibrated=True), "one")]}
    first, second = (next(draw(content)) for _ in range(2))
    assert (first.name, first.png, first.svg) == (second.name, second.png, second.svg)
