"""The page of a finished run, as a person, a browser and assistive technology read it."""

import csv
import gzip
import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from virnuc_dask.config import load_settings
from virnuc_dask.errors import BadTableError
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.outputs.report.contigs import Digest
from virnuc_dask.outputs.report.page import write_report
from virnuc_dask.outputs.report.plots import called_from, scatter
from virnuc_dask.outputs.report.strips import Strip
from virnuc_dask.planning import call_rule
from virnuc_dask.run import run
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder

CONTIGS_HEADER = "\t".join([*schemas.CONTIGS.names[:8], "sample"]) + "\n"
DEMO = Path(__file__).parents[1] / "data" / "demo.fasta.gz"
HOSTILE = "<img/src=x/onerror=document.title='owned'>"
IN_SCRIPT = "</script><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of phage lambda, of two contigs with hostile names, and of a record without a gene."""
    folder = tmp_path_factory.mktemp("report")
    lambda_, *others = gzip.decompress(DEMO.read_bytes()).decode().split(">")[1:4]
    records = [lambda_, HOSTILE + others[0][others[0].index("\n") :]]
    records += [IN_SCRIPT + others[1][others[1].index("\n") :], "nothing\nNNNNNNNN\n"]
    fasta = folder / "<b>in.fasta"
    fasta.write_text("".join(f">{record}" for record in records))
    settings = load_settings(flags={"cluster.kind": "none"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("virnuc_dask.run"), "write_report", write_report)
        return run(fasta, folder / "out", settings=settings).folder


@pytest.fixture(scope="module")
def page(finished: Path) -> str:
    return (finished / "report.html").read_text()


def words(page: str) -> str:
    """What a person reads of it."""
    shown = re.sub(r"<(script|style|title)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", shown)


def test_it_says_what_was_found_how_sure_it_is_and_where_the_set_fails(page, finished):
    told = words(page)
    assert "1 of 4 records called virus" in told
    assert "1 record holds nothing that could be scored" in told
    assert "Short contigs of viruses of eukaryotes" in told
    run_json = json.loads((finished / "run.json").read_text())
    assert run_json["modelset"]["checksum"] in told
    assert run_json["plan"]["decisions"]["input_digest"] in told


def viral_genes_of(finished: Path, record_id: str) -> tuple[int, int]:
    with (finished / "contigs.tsv").open(newline="") as stream:
        (row,) = (r for r in csv.DictReader(stream, delimiter="\t") if r["record_id"] == record_id)
    return int(row["viral_genes"]), int(row["genes"])


def test_every_scored_record_has_a_strip_of_its_genes(page, finished):
    rows = re.findall(r'<th role="rowheader".*?</tr>', page, re.DOTALL)
    assert len(rows) == 2 * 3, "the most viral, and those nearest to the threshold"
    assert "Escherichia_phage_lambda" in rows[0]
    viral, genes = map(int, re.search(r'aria-label="(\d+) of (\d+) viral"', rows[0]).groups())
    assert (viral, genes) == viral_genes_of(finished, "Escherichia_phage_lambda")
    assert 10 < viral < genes
    assert rows[0].count('class="v"') == viral
    regions = (finished / "virus_regions.tsv").read_text().count("Escherichia_phage_lambda")
    assert rows[0].count('class="region"') == regions > 0


def test_names_are_text_and_nothing_is_fetched(page):
    assert HOSTILE not in page
    assert IN_SCRIPT not in page
    assert "<b>in" not in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", words_and_tags(page))
    assert "default-src 'none'" in page


def words_and_tags(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def mini_rule() -> CallRule:
    info = read_info(find("mini"))
    return call_rule(load_settings(flags={"cluster.kind": "none"}), info, info.chunk_lengths[0])


@pytest.fixture(scope="module")
def full(finished, mini_rule, tmp_path_factory) -> Path:
    """A page with all its sections: samples, a viral region, what failed, a run beside it."""
    folder = tmp_path_factory.mktemp("full") / "out"
    shutil.copytree(finished, folder)
    with (folder / "contigs.tsv").open(newline="") as stream:
        head, *rows = csv.reader(stream, delimiter="\t")
    rows[1][head.index("call")] = "virus_region"
    rows.append(["again", *rows[2][1:]])
    samples = ["gut", "gut", "<i>soil</i>", "", "<i>soil</i>"]
    with (folder / "contigs.tsv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(head)
        writer.writerows([*row[:-1], sample] for row, sample in zip(rows, samples, strict=True))
    run_json = json.loads((folder / "run.json").read_text())
    run_json["summary"]["chunks_failed"] = 30
    (folder / "run.json").write_text(json.dumps(run_json))
    lines = (f"one_chunk_{n}\tone\t0\t<b>out of memory</b>\n" for n in range(30))
    (folder / "failed.tsv").write_text("chunk_id\trecord_id\tpartition\treason\n" + "".join(lines))
    return write_report(RunFolder(folder), mini_rule, [finished])


def test_samples_regions_and_what_failed_are_told(full):
    told = words(full.read_text()).replace("\u00a0", " ")
    assert "1 record more is no virus as a whole but holds a viral region" in told
    assert "virus_region 1 20.0 %" in told
    assert "gut 2 1 1 0 0 0 50.0 % &lt;i&gt;soil&lt;/i&gt; 2 0 0 2 0 0 0.0 % \u2013 1 0" in told
    assert "30 parts could not be computed" in told
    assert "The first 20 of 30 lines of failed.tsv" in told
    assert "one_chunk_19 0 &lt;b&gt;out of memory" in told
    assert "3 of them are called the same" in told
    assert 'class="bar virus_region"' in full.read_text()


def test_of_one_sample_there_is_no_table_of_them(page):
    assert "Viruses by sample" not in page
    assert 'virus_region"' not in words_and_tags(page).split("</style>")[1]


@pytest.fixture(scope="module")
def browse(tmp_path_factory) -> Callable[..., str]:
    """Opens a page in Chromium: its document once its scripts have run."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")

    def document(page: str, *options: str) -> str:
        (folder / "page.html").write_text(page, encoding="utf-8")
        call = [program, "--headless", "--no-sandbox", "--disable-gpu", *options]
        call += [f"--user-data-dir={folder}/own", "--virtual-time-budget=60000", "--dump-dom"]
        call += [(folder / "page.html").as_uri()]
        return subprocess.run(call, capture_output=True, text=True, timeout=200, check=True).stdout

    return document


def test_a_browser_runs_the_pages_script_and_no_other(page, browse):
    shown = browse(page)
    assert re.search(r"<title>Viruses in &lt;b&gt;in.fasta</title>", shown)
    assert '<div class="step" hidden' in page
    assert '<div class="step">' in shown, "its own script ran"
    smuggled = page.replace("</main>", "<script>document.title = 'owned'</script></main>")
    assert "<title>owned" not in browse(smuggled)
    at_liberty = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", smuggled)
    assert "<title>owned" in browse(at_liberty), "or the test shows nothing"


# What runs in the page: axe's rules, a turn of the slider, and what is wider than the window.
EXAMINE = """
const found = {}, slider = document.querySelector("input[type=range]");
slider.value = 0;
slider.dispatchEvent(new Event("input"));
found.told = document.querySelector("output").textContent;
found.spoken = slider.getAttribute("aria-valuetext");
found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
found.wide = [document.documentElement, ...document.querySelectorAll("p, .facts, figure, .table")]
  .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.outerHTML.slice(0, 90));
for (const part of document.querySelectorAll("details")) part.open = true;
axe.run(document, {resultTypes: ["violations"]}).then(result => {
  found.faults = result.violations.filter(fault => ["serious", "critical"].includes(fault.impact))
    .map(fault => [fault.id, fault.nodes.map(node => node.html)]);
  found.passed = result.passes.map(rule => rule.id);
  document.body.innerHTML = `<pre>${encodeURIComponent(JSON.stringify(found))}</pre>`;
});
"""


@pytest.mark.parametrize("width", [500, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_fault_and_a_keyboard_reaches_every_dot(full, browse, dark, width):
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip('no axe-core here: pip install ".[test]"')
    axe = Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", full.read_text())
    scripts = f"<script>{axe}</script><script>{EXAMINE}</script></body>"
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    shown = browse(free.replace("</body>", scripts), scheme, f"--window-size={width},900")
    found = json.loads(unquote(re.search("<pre>([^<]*)</pre>", shown)[1]))
    assert found["dark"] == dark
    assert found["faults"] == []
    assert {"color-contrast", "aria-required-children", "svg-img-alt"} <= {*found["passed"]}
    assert found["told"] == found["spoken"]
    assert re.search(r": (others|virus_region), [\d,]+ nt, probability 0\.\d{3}$", found["told"])
    assert found["wide"] == []


def test_another_run_is_compared_and_the_page_is_still_the_runs_own(finished, tmp_path, command):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(finished, here)
    shutil.copytree(finished, there)
    contigs = (there / "contigs.tsv").read_text()
    (there / "contigs.tsv").write_text(contigs.replace("\tvirus\t", "\tothers\t", 1))
    code, said, _ = command("report", here, "--compare", there)
    assert code == 0
    assert said.strip() == str(here / "report.html")
    told = words((here / "report.html").read_text())
    assert "4 records of one run or the other" in told
    assert (
        "record call here call there probability here value there "
        "Escherichia_phage_lambda virus others" in told
    )
    assert "records others there unscored there others here 2 0 unscored here 0 1" in told
    code, _, said = command("run", finished.parent / "<b>in.fasta", "-o", here, "--force")
    assert code == 0, said
    assert not (here / "report.html").exists(), "not of another run"


@pytest.mark.parametrize("modelset", ["frames_modelset", "parity_modelset"])
def test_a_set_that_reads_frames_has_strips_of_chunks(modelset, request, tmp_path):
    settings = load_settings(
        flags={
            "cluster.kind": "none",
            "prefix": "x",
            "model": str(request.getfixturevalue(modelset)),
        }
    )
    fasta = tmp_path / "in.fasta"
    _, lambda_, *_ = gzip.decompress(DEMO.read_bytes()).decode().split(">")
    fasta.write_text(f">one {lambda_}\n>none\nNNNN\n")
    page = run(fasta, tmp_path / "out", settings=settings).report()
    assert page.name == "x.report.html"
    told = words(page.read_text())
    assert "of 2 records called virus" in told
    assert "chunks along the record" in told
    assert "Records by score" in told
    assert ("Records by probability" in told) == (modelset == "frames_modelset")
    assert "No card of it says" in told
    rows = re.findall(r'<th role="rowheader".*?</tr>', page.read_text(), re.DOTALL)
    regions = page.with_name("x.virus_regions.tsv").read_text().count("one\t")
    assert [row.count('class="region"') for row in rows] == [regions] * 2
    assert regions == (modelset == "frames_modelset")
    (viral,) = re.findall(r"viral chunks (\d+) of", told)
    assert re.search(rf'aria-label="{viral} of [1-9]\d* viral"', page.read_text())
    assert ("q-value up to" in told) == (modelset == "frames_modelset")


def test_a_run_is_not_compared_with_itself(finished, command, monkeypatch):
    monkeypatch.chdir(finished)
    code, _, said = command("report", finished, "--compare", ".")
    assert (code, ".: is the run itself; name another one" in said) == (2, True)


@pytest.mark.parametrize("content", [None, "{", '{"plan": 1}', '{"virnuc_dask": "0", "plan": {}}'])
def test_what_is_no_finished_run_is_refused(content, tmp_path, command):
    if content:
        (tmp_path / "run.json").write_text(content)
    code, _, said = command("report", tmp_path)
    assert code == 3
    assert "no finished run here; make one with `run`" in said


def test_a_page_that_somebody_put_there_is_kept(finished, tmp_path, command):
    shutil.copytree(finished, tmp_path / "out")
    theirs = tmp_path / "out" / "report.html"
    theirs.write_text("mine")
    code, _, said = command("report", tmp_path / "out")
    assert code == 2
    assert "report.html: is not as the run left it" in said
    assert theirs.read_text() == "mine"


def test_a_page_that_cannot_be_made_fails_no_run(finished, tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise BadTableError("contigs.tsv: cannot be read")

    monkeypatch.setattr(import_module("virnuc_dask.run"), "write_report", fails)
    settings = load_settings(flags={"cluster.kind": "none"})
    shutil.copytree(finished, tmp_path / "out")
    done = run(finished.parent / "<b>in.fasta", tmp_path / "out", settings=settings, resume=True)
    assert done.summary["contigs"]["virus"] == 1
    assert not (done.folder / "report.html").exists(), "not of the earlier run"
    log = (done.folder / "run.log.jsonl").read_text()
    assert "report.html could not be made: contigs.tsv: cannot be read" in log


def test_a_page_of_many_records_is_small_and_shows_the_first_and_the_nearest(
    finished, mini_rule, tmp_path
):
    rng, count = np.random.default_rng(1), 100_000
    value = rng.random(count).round(6)
    lines = (
        f"{'<' * 100}{n}\t{n + 300}\t1\t1\t{one}\t{one}\t\t{('others', 'virus')[one >= 0.5]}\t\n"
        for n, one in enumerate(value.tolist())
    )
    shutil.copytree(finished, tmp_path / "out")
    path = tmp_path / "out" / "contigs.tsv"
    path.write_text(CONTIGS_HEADER + "".join(lines))
    digest = Digest.read(path, CallRule())
    assert digest.highest["row"].to_pylist() == np.argsort(-value, kind="stable")[:20].tolist()
    assert (
        digest.nearest["row"].to_pylist()
        == np.argsort(abs(value - 0.5), kind="stable")[:20].tolist()
    )
    assert sum(counts.sum() for counts in digest.histograms["score"].values()) == count
    assert digest.histograms["score"]["virus"].sum() == (value >= 0.5).sum()
    dots = scatter(digest, CallRule()).dots
    assert len(dots) == 4_000
    assert abs(np.mean([100 - top for _, top, *_ in dots]) - 50) < 2, "drawn at random"
    assert [top for _, top, *_ in dots] == sorted((top for _, top, *_ in dots), reverse=True)
    page = write_report(RunFolder(tmp_path / "out"), mini_rule)
    assert page.stat().st_size < 3_000_000
    assert "4,000 of 100,000 records, drawn at random" in words(page.read_text())


def test_a_strip_of_very_many_parts_is_a_strip_of_their_means():
    parts = [(n, n + 1, float(n % 4 == 0)) for n in range(1000)]
    strip = Strip(1000, parts)
    assert str(strip) == "250 of 1000 viral"
    assert len(strip.drawn) == 200
    assert strip.drawn[0] == (0, 5, 0.4)
    assert strip.drawn[-1][1] == 1000
    assert Strip(1000, parts[:100]).drawn == parts[:100]


def test_the_threshold_is_where_records_become_viruses(tmp_path, mini_rule):
    path = tmp_path / "contigs.tsv"
    rows = "".join(
        f"{n}\t{10 ** (n + 2)}\t1\t1\t{n / 9}\t{n / 9}\t{1 - n / 9}\t"
        f"{'virus' if n > 6 else 'others'}\t\n"
        for n in range(9)
    )
    path.write_text(CONTIGS_HEADER + rows)
    digest = Digest.read(path, mini_rule)
    low, high = called_from(digest, mini_rule)
    assert (round(low, 2), round(high, 2)) == (0.5, 0.96)
    plot = scatter(digest, mini_rule)
    assert [round(top) for _, top in (plot.threshold[0], plot.threshold[-1])] == [4, 50]
    assert [text for _, text in plot.ticks][::2] == [
        "100 nt",
        "10 kb",
        "1 Mb",
        "100 Mb",
        "10,000 Mb",
    ]
    by_fdr = replace(mini_rule, fdr=0.3)
    digest = Digest.read(path, by_fdr)
    assert called_from(digest, by_fdr) == (pytest.approx(7 / 9), pytest.approx(7 / 9))
    assert scatter(digest, by_fdr).threshold == []


def test_records_without_a_score_and_files_without_records_are_no_fault(tmp_path):
    path = tmp_path / "contigs.tsv"
    path.write_text(CONTIGS_HEADER + '"quo""ted"\t0\t0\t0\t\t\t\tunscored\t\n')
    digest = Digest.read(path, CallRule())
    assert (digest.records, len(digest.highest), scatter(digest, CallRule()).dots) == (1, 0, [])
    long = "x" * 3_000_000
    path.write_text(CONTIGS_HEADER + f'"{long}\n"\t9\t1\t1\t0.9\t\t\tvirus\t\n')
    assert len(Digest.read(path, CallRule()).highest["record_id"][0].as_py()) == 3_000_001
    path.write_text(CONTIGS_HEADER)
    assert Digest.read(path, CallRule()).records == 0
    assert scatter(Digest.read(path, CallRule()), CallRule()).dots == []
    with pytest.raises(BadTableError, match="cannot be read"):
        Digest.read(tmp_path / "missing.tsv", CallRule())
