import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import islice

import pytest

from virnuc_dask.lab.quality.plots import draw
from virnuc_dask.lab.quality.report import page

HOSTILE = (
    '"><script>alert(1)</script><img src=http://x.example/a.png onerror=alert(1)>&amp;\x1b[31m'
)
SINGS = "<img src=x onerror=document.body.append('su'+'ng')><script>document.body.append('su'+'ng')"
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


def hostile_page(content, text):
    """The page of a content whose every text from outside is this."""
    content["warnings"].append(f"beware {text}")
    evaluation = content["evaluations"][0]
    for group in (*content["groups"], *evaluation["groups"]):
        group["name"] = f"{group['name']}{text}"
    for group in content["groups"]:
        group["file"] = f"/data/{text}.fa"
    for pair in evaluation["pairs"]:
        pair["virus"] += text
    for mistake in evaluation["mistakes"]["missed"]:
        mistake["record_id"] += text
    return page(content, list(islice(draw(content), 2)))


@pytest.fixture(scope="module")
def hostile(made_up_run, content_of):
    return hostile_page(content_of(made_up_run(calibrated=True), label=f"set {HOSTILE}"), HOSTILE)


def test_whatever_files_hold_is_shown_as_text_and_nothing_is_fetched(hostile):
    reader = Reader(hostile)
    assert not {"script", "img", "iframe", "link", "object"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert "".join(reader.text).count("<script>alert(1)</script>") > 10
    assert "\x1b" not in hostile
    assert "recall at 1\xa0%" in hostile
    assert not re.search(r"@import|url\((?!#)", hostile)
    links = [v for name, v in reader.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("#") for value in links)
    assert "default-src 'none'" in hostile


def test_in_a_browser_nothing_that_files_hold_runs(made_up_run, content_of, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium here")

    def show(html):
        """The document as it stands afterwards."""
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/own"]
        command = [browser, *options, "--dump-dom", (tmp_path / "page.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    assert "sung" in show(f"<!doctype html><body>{SINGS}</script></body>"), "a script would run"
    content = content_of(made_up_run(calibrated=True), label=f"\"'>{SINGS}</script>")
    document = show(hostile_page(content, f"</td></style></title></main>{SINGS}</script>"))
    assert document.count("document.body.append") > 4, "the names are shown"
    assert "sung" not in document
    assert not {"script", "img"} & set(Reader(document).tags)


def test_a_page_is_whole_and_follows_light_and_dark(hostile):
    reader = Reader(hostile)
    assert reader.open == []
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r"url\(#([^)]+)\)", hostile)
    used += [value[1:] for name, value in reader.attributes if name.endswith("href")]
    assert used
    assert set(used) <= set(ids)
    assert hostile.index("<table>") < hostile.index("<h2>Plots</h2>") < hostile.index("<svg")
    assert hostile.count("<figure>") == hostile.count("</svg>") == 2
    assert "prefers-color-scheme: dark" in hostile
    svg = hostile[hostile.index("<svg") :]
    assert "currentColor" in svg
    assert "#1f2933" not in svg


def table_of(html, title):
    """Cells of the first table of a section, its header first, as a reader sees them."""
    section = html[html.index(f"<h2>{title}</h2>") :]
    rows = re.findall(r"<tr>(.*?)</tr>", section[: section.index("</table>")], re.DOTALL)
    return [
        ["".join(Reader(cell).text) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)]
        for row in rows
    ]


def test_sets_stand_side_by_side(made_up_run, content_of):
    runs = [made_up_run(calibrated=True, power=0.5), made_up_run(calibrated=True, genes=True)]
    content = content_of(*runs, made_up_run(calibrated=False))
    html = page(content, [])
    head, *rows = table_of(html, "All records")
    assert head[-1] == "Δ AUROC to the first"
    sets = ["mini (500 nt)", "other 1", "other 2"]
    which = ("all", "those that all sets score")
    assert [row[:2] for row in rows] == [[of, name] for of in which for name in sets]
    assert re.fullmatch(r"35 \(\d unsure\)", rows[1][2])
    found = content["evaluations"][2]["shared_contigs"]["difference_to_first"]
    assert rows[-1][-1].startswith(f"{found['auroc']:+.4f} [")
    assert "No calibration: other 2." in html
    for title in ("All records", "By pair of groups", "Called virus, by group", "By length",
                  "Calibration"):  # fmt: skip
        head, *rows = table_of(html, title)
        assert {len(row) for row in rows} == {len(head)}, title
    assert [row[:2] for row in table_of(html, "By length")[1:4]] == [
        ["0 to 499 nt", name] for name in sets
    ]
    alone = page(content_of(runs[0]), [])
    assert "to the first" not in alone
    assert "No calibration" not in alone
