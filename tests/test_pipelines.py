"""What pipelines read of a run: named files, one JSON object, versions, what differs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from virnuc_dask import __version__
from virnuc_dask.config import load_settings
from virnuc_dask.errors import BadSettingError
from virnuc_dask.outputs.genomad import SUMMARY_HEADER
from virnuc_dask.run import run
from virnuc_dask.tables.folder import RunFolder

FASTA = "".join(f">r{n}\n{'ATGGCCAAAGTTCTG' * (20 + n)}{'ACGTTGCA' * n}\n" for n in range(1, 9))
PLAIN = {"run.json", "run.log.jsonl", "versions.yml", "multiqc", "partitions", "predictions"}


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipelines") / "in.fasta"
    path.write_text(FASTA + ">none\nNNN\n")
    return path


@pytest.fixture(scope="module")
def way(frames_modelset: Path) -> tuple[object, ...]:
    return ("--model", frames_modelset, "--cluster", "none", "--threads", 1)


@pytest.fixture(scope="module")
def finished(fasta: Path, frames_modelset: Path) -> Path:
    """A run whose files begin with ``s1``."""
    flags = {"cluster.kind": "none", "model": str(frames_modelset), "prefix": "s1"}
    return run(fasta, fasta.parent / "out", settings=load_settings(flags=flags)).folder


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def names(folder: Path) -> set[str]:
    shown = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return shown - {"features"}


def prefixes(folder: Path) -> set[str]:
    """What stands before the first dot of the files that have a prefix."""
    files = names(folder) - PLAIN | {path.name for path in (folder / "multiqc").iterdir()}
    return {name.partition(".")[0] for name in files}


def test_a_prefix_stands_before_every_result_file(finished):
    assert prefixes(finished) == {"s1"}
    assert {"s1.contigs.tsv", "s1.chunks.parquet", "s1.virus.fasta"} < names(finished)
    listed = json.loads((finished / "run.json").read_text())["outputs"]
    assert "s1.contigs.tsv" in listed
    assert "multiqc/s1.virnuc_calls_mqc.json" in listed


def test_versions_are_as_a_module_writes_them(finished):
    text = (finished / "versions.yml").read_text()
    assert yaml.safe_load(text) == {
        "virnuc_dask": {"virnuc_dask": __version__, "modelset_frames": "1"}
    }
    assert text.startswith("virnuc_dask:\n    virnuc_dask: ")
    assert (finished / "multiqc" / "s1.virnuc_mqc_versions.yml").read_text() == text


def test_a_run_keeps_its_prefix_whatever_is_done_with_it(out, finished, fasta, way, command):
    before = names(out)
    assert command("run", fasta, "-o", out, *way, "--resume")[0] == 0
    assert names(out) == before
    code, said, _ = command("predict", out, *way, "--json")
    assert (code, names(out)) == (0, before)
    assert json.loads(said)["files"]["contigs.tsv"] == str(out / "s1.contigs.tsv")
    assert command("report", out, "--compare", finished)[1].strip() == str(out / "s1.report.html")
    assert "finished" in command("status", out)[1]
    code, _, said = command("run", fasta, "-o", out, *way, "--resume", "--prefix", "s2")
    assert code == 2
    assert "begin with 's1', now 's2'. Resume without --prefix" in said


def test_a_run_with_another_prefix_takes_the_place_of_the_files_that_a_run_made(
    out, fasta, way, command
):
    theirs = out / "s1.virus.fasta"
    theirs.write_text(theirs.read_text() + ">mine\nACGT\n")
    assert command("run", fasta, "-o", out, *way, "--force", "--prefix", "s2")[0] == 0
    assert names(out) - PLAIN - {theirs.name} == {
        name for name in names(out) if name.startswith("s2.")
    }
    assert theirs.exists(), "what somebody changed stays"
    (out / "s3.contigs.tsv").write_text("mine")
    code, _, said = command("run", fasta, "-o", out, *way, "--force", "--prefix", "s3")
    assert code == 2
    assert "s3.contigs.tsv: is not as the run left it" in said
    run_json = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(run_json | {"outputs": None, "summary": None}))
    code, _, said = command("run", fasta, "-o", out, *way, "--force", "--prefix", "s3")
    assert code == 2, "an unfinished run made files of its own prefix only"


@pytest.mark.parametrize("prefix", ["../up", "/root", "a b", ".hidden", "-o", "", "a\n"])
def test_a_prefix_that_is_no_name_is_refused(prefix, out):
    with pytest.raises(BadSettingError, match="prefix must be letters, digits"):
        load_settings(flags={"prefix": prefix})
    run_json = json.loads((out / "run.json").read_text())
    run_json["settings"]["prefix"] = prefix
    (out / "run.json").write_text(json.dumps(run_json))
    assert RunFolder.of_run(out).output("contigs.tsv") == out / "contigs.tsv"


def test_tables_of_a_run_with_a_prefix_are_found(fasta, frames_modelset, tmp_path):
    flags = {"cluster.kind": "none", "model": str(frames_modelset), "prefix": "x"}
    done = run(fasta, tmp_path / "out", settings=load_settings(flags=flags))
    assert done.dataset("chunks").count_rows() == done.summary["chunks"]


def test_json_is_one_object_on_standard_output(tmp_path, fasta, way, command):
    code, said, told = command("run", fasta, "-o", tmp_path / "out", *way, "--json")
    assert code == 0
    found = json.loads(said)
    assert "done in" in told, "messages go to standard error"
    assert list(found) == [
        *("folder", "files", "virnuc_dask", "versions", "result_tables", "inputs", "settings"),
        *("modelset", "summary"),
    ]
    assert found["summary"]["records"] == 9
    assert all(Path(path).is_file() for path in found["files"].values())
    assert {"contigs.tsv", "versions.yml", "multiqc/virnuc_calls_mqc.json"} < found["files"].keys()
    code, said, _ = command("run", fasta, "-o", tmp_path / "new", *way, "--dry-run", "--json")
    assert (code, json.loads(said)["records"]) == (0, 9)
    assert not (tmp_path / "new").exists()


def test_formats_of_other_tools_are_written_when_asked_for_and_go_with_them(
    out, fasta, way, command
):
    scores, summary = (
        out / f"s1.{name}" for name in ("prediction_results_highestscore.csv", "virus_summary.tsv")
    )
    plain = scores.read_text()
    assert plain.startswith("Modified_ID\tIs_Virus\n")
    ask = ("run", fasta, "-o", out, *way, "--resume")
    assert command(*ask, "--formats", "legacy", "--formats", "genomad")[0] == 0
    header, *rows = (line.split("\t") for line in scores.read_text().splitlines())
    assert header == ["Modified_ID", "Is_Virus", "max_score_0", "max_score_1"]
    assert ["\t".join(row[:2]) for row in rows] == plain.splitlines()[1:]
    for _, is_virus, others, virus in rows:
        assert (is_virus == "True") == (float(virus) >= float(others))
    assert summary.read_text().startswith(SUMMARY_HEADER)
    assert command(*ask)[0] == 0
    assert scores.read_text() == plain
    assert not summary.exists()
    code, _, said = command(*ask, "--formats", "legacy,vibrant")
    assert code == 2
    assert "formats[1] must be one of legacy, genomad, not 'vibrant'" in said


def test_the_version_is_one_line(command):
    assert command("--version") == (0, f"virnuc_dask, version {__version__}\n", "")
