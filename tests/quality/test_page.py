import re
from html.parser import HTMLParser
from itertools import islice

import pytest

from virnuc_dask.quality.assessment import assess, difference
from virnuc_dask.quality.page import page
from virnuc_dask.quality.plots import draw

HOSTILE = (
    '"><script>alert(1)</script><img src=http://x.example/a.png onerror=alert(1)>&amp;\x1b[31m'
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Tags and attributes of a page, its text, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)
        self.close()

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def content_of(*runs, label="mini (500 nt)"):
    evaluations = [
        {
            "label": label if not place else f"other {place}",
            "modelset": {"name": "mini", "version": "1", "checksum": "c" * 64, "files": {}},
            "chunk_length": 500,
            "precision": "fp32",
            "called_by": "score >= 0.5",
            "run": "runs/mini-500",
            "difference_to_first": difference(run, runs[0]) if place else None,
            **assess(run),
        }
        for place, run in enumerate(runs)
    ]
    return {
        "virnuc_dask": "0",
        "versions": {"python": "3"},
        "seed": 0,
        "resamples": 200,
        "groups": [
            {
                "name": group.name,
                "file": group.file,
                "is_virus": group.is_virus,
                "records": group.records,
                "length_nt": group.length_nt,
                "sha256": group.sha256,
            }
            for group in runs[0].labelled.groups
        ],
        "warnings": [],
        "evaluations": evaluations,
    }


def first_plots(content):
    return list(islice(draw(content), 2))


@pytest.fixture(scope="module")
def hostile(made_up_run):
    content = content_of(made_up_run(calibrated=True), label=f"set {HOSTILE}")
    content["warnings"].append(f"beware {HOSTILE}")
    evaluation = content["evaluations"][0]
    for group in (*content["groups"], *evaluation["groups"]):
        group["name"] = f"{group['name']}{HOSTILE}"
    for group in content["groups"]:
        group["file"] = f"/data/{HOSTILE}.fa"
    for pair in evaluation["pairs"]:
        pair["virus"] += HOSTILE
    for mistake in evaluation["mistakes"]["missed"]:
        mistake["record_id"] += HOSTILE
    return page(content, first_plots(content))


def test_whatever_files_hold_is_shown_as_text(hostile):
    reader = Reader(hostile)
    assert not {"script", "img", "iframe", "link", "object"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    shown = "".join(reader.text)
    assert shown.count("<script>alert(1)</script>") > 10
    assert "\x1b" not in hostile
    assert "recall at 1\xa0%" in hostile


def test_nothing_is_fetched_from_elsewhere(made_up_run):
    content = content_of(made_up_run(calibrated=True))
    html = page(content, first_plots(content))
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", html)
    reader = Reader(html)
    links = [value for name, value in reader.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in links)
    assert "default-src 'none'" in html


def test_every_tag_is_closed_and_every_id_is_there_once(hostile):
    reader = Reader(hostile)
    assert reader.open == []
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r"url\(#([^)]+)\)", hostile)
    used += [value[1:] for name, value in reader.attributes if name == "href"]
    assert used
    assert set(used) <= set(ids)


def test_tables_stand_before_plots(hostile):
    assert hostile.index("<table>") < hostile.index("<h2>Plots</h2>") < hostile.index("<svg")
    assert hostile.count("<figure>") == hostile.count("</svg>") == 2


def test_the_page_follows_light_and_dark(hostile):
    assert "prefers-color-scheme: dark" in hostile
    svg = hostile[hostile.index("<svg") :]
    assert "currentColor" in svg
    assert "#1f2933" not in svg


def test_sets_stand_side_by_side_with_their_difference(made_up_run):
    content = content_of(*(made_up_run(calibrated=False, power=power) for power in (0.5, 1.0)))
    html = page(content, [])
    rows = re.findall(r'<tr><td class="text">chunks</td><td class="text">(.*?)</td>', html)
    assert rows[:2] == ["mini (500 nt)", "other 1"]
    found = content["evaluations"][1]["difference_to_first"]
    assert f"{found['auroc']:+.4f}" in html
    assert "No calibration: mini (500 nt), other 1." in html


def test_a_single_set_has_no_difference(made_up_run):
    content = content_of(made_up_run(calibrated=True))
    html = page(content, [])
    assert "to the first" not in html
    assert "No calibration" not in html
    assert f"{content['evaluations'][0]['levels']['contigs']['auroc']:.3f}" in html
