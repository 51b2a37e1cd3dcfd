"""The page of a finished run, as a person and as a browser reads it."""

import gzip
import json
import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask.config import load_settings
from virnuc_dask.errors import BadTableError
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.outputs.contigs import CONTIGS_HEADER
from virnuc_dask.outputs.report.contigs import Digest
from virnuc_dask.outputs.report.page import write_report
from virnuc_dask.outputs.report.plots import draw
from virnuc_dask.planning import call_rule
from virnuc_dask.run import run
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables.folder import RunFolder

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
    assert "1 hold nothing that could be scored" in told
    assert "Short contigs of viruses of eukaryotes" in told
    run_json = json.loads((finished / "run.json").read_text())
    assert run_json["modelset"]["checksum"] in told
    assert run_json["plan"]["decisions"]["input_digest"] in told


def test_every_scored_record_has_a_strip_of_its_genes(page):
    rows = re.findall(r'<th scope="row" class="text id".*?</tr>', page, re.DOTALL)
    assert len(rows) == 2 * 3, "the most viral, and those nearest to the threshold"
    assert "Escherichia_phage_lambda" in rows[0]
    viral, genes = map(int, re.search(r'aria-label="(\d+) of (\d+) viral"', rows[0]).groups())
    assert 10 < viral < genes
    assert rows[0].count('class="v"') == viral


def test_names_are_text_and_nothing_is_fetched(page):
    assert HOSTILE not in page
    assert IN_SCRIPT not in page
    assert "<b>in" not in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", words_and_tags(page))
    assert "default-src 'none'" in page


def words_and_tags(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_a_browser_draws_it_and_runs_nothing_of_a_name(finished, tmp_path):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}")
    url = (finished / "report.html").as_uri()
    call = [program, *options, "--virtual-time-budget=20000", "--dump-dom", url]
    drawn = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.search(r"<title>Viruses in &lt;b&gt;in.fasta</title>", drawn)
    assert "bk-Canvas" in drawn or "<canvas" in drawn, "the plots"


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
        "record called otherwise here there here there Escherichia_phage_lambda virus others"
        in told
    )
    code, _, said = command("run", finished.parent / "<b>in.fasta", "-o", here, "--force")
    assert code == 0, said
    assert not (here / "report.html").exists(), "not of another run"


@pytest.mark.parametrize("modelset", ["frames_modelset", "parity_modelset"])
def test_a_set_that_reads_frames_has_strips_of_chunks(modelset, request, tmp_path):
    settings = load_settings(
        flags={"cluster.kind": "none", "model": str(request.getfixturevalue(modelset))}
    )
    fasta = tmp_path / "in.fasta"
    fasta.write_text(">one\n" + "ATGGCCAAAGTTCTG" * 200 + "\n>none\nNNNN\n")
    folder = run(fasta, tmp_path / "out", settings=settings).folder
    info = read_info(Path(settings.model))
    page = write_report(RunFolder(folder), call_rule(settings, info, info.chunk_lengths[0]))
    told = words(page.read_text())
    assert "of 2 records called virus" in told
    assert "chunks along the record" in told
    assert re.search(r'aria-label="\d+ of [1-9]\d* viral"', page.read_text())
    assert ("q-value up to" in told) == (modelset == "frames_modelset")


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


def test_a_page_of_many_records_is_small_and_shows_the_first_and_the_nearest(tmp_path):
    rng, count = np.random.default_rng(1), 100_000
    value = rng.random(count).round(6)
    lines = (
        f"a_rather_long_name_of_record_{n}\t{n + 300}\t1\t1\t{one}\t\t\t"
        f"{'virus' if one >= 0.5 else 'others'}\n"
        for n, one in enumerate(value.tolist())
    )
    path = tmp_path / "contigs.tsv"
    path.write_text(CONTIGS_HEADER + "".join(lines))
    digest = Digest.read(path, CallRule())
    assert digest.highest.row.tolist() == np.argsort(-value, kind="stable")[:20].tolist()
    assert digest.nearest.row.tolist() == np.argsort(abs(value - 0.5), kind="stable")[:20].tolist()
    assert sum(counts.sum() for counts in digest.histogram.values()) == count
    assert digest.histogram["virus"].sum() == (value >= 0.5).sum()
    plots = draw(digest, CallRule())
    assert plots.points == 4_000
    assert len(plots.code) + len(plots.script) < 2_500_000
    drawn = np.concatenate([some.value for some in digest.drawn])
    assert abs(drawn.mean() - 0.5) < 0.02, "drawn at random"


def test_records_without_a_score_and_files_without_records_are_no_fault(tmp_path):
    path = tmp_path / "contigs.tsv"
    path.write_text(CONTIGS_HEADER + '"quo""ted"\t0\t0\t0\t\t\t\tunscored\n')
    digest = Digest.read(path, CallRule())
    assert (digest.records, len(digest.highest), digest.drawn) == (1, 0, [])
    long = "x" * 3_000_000
    path.write_text(CONTIGS_HEADER + f'"{long}\n"\t9\t1\t1\t0.9\t\t\tvirus\n')
    assert len(Digest.read(path, CallRule()).highest.record_id[0]) == 3_000_001
    path.write_text(CONTIGS_HEADER)
    assert Digest.read(path, CallRule()).records == 0
    assert draw(Digest.read(path, CallRule()), CallRule()).points == 0
    with pytest.raises(BadTableError, match="cannot be read"):
        Digest.read(tmp_path / "missing.tsv", CallRule())
