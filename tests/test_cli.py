"""The command line: arguments in, messages and exit codes out."""

import errno
import gzip
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_dask.cli import running
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.run import Run
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.tables.folder import RunFolder

DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 20


@pytest.fixture
def run_here(command, parity_modelset, tmp_path):
    """A real run in this process, with the tiny model set."""

    def call(*arguments: object) -> tuple[int, str, str]:
        way = ("--model", parity_modelset, "--cluster", "none", "--threads", 1)
        return command("run", *arguments, "-o", tmp_path / "out", *way)

    return call


@pytest.fixture
def seen(monkeypatch) -> dict:
    """Takes the place of the main job and keeps what it was called with."""
    called: dict = {}

    def run(inputs, out, *, settings, **options):
        called.update(inputs=inputs, out=out, settings=settings, **options)
        summary = {"contigs": {"virus": 1, "others": 2, "unscored": 3}, "elapsed_s": 1.0}
        return Run(
            out,
            summary | {"records": 6, "chunks": 9, "chunks_scored": 7, "frames": 8, "highest": []},
        )

    monkeypatch.setattr(running, "run", run)
    return called


def test_every_option_reaches_the_settings(command, seen, tmp_path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("virnuc: {max_tokens: 7, cluster: {workers: 7}}")
    options = (
        "--model mini --length 300 --workers 3 --threads 2 --device cpu --precision bf16 "
        "--features-dtype float16 --scheduler tcp://10.0.0.1:8786 --fdr 0.05 "
        "--no-persistent-models --no-features --force --quiet"
    )
    code, out, _ = command(
        "run", "a.fa", "b.fa", "-o", tmp_path, "--config", preset, *options.split()
    )
    assert (code, out, seen["inputs"]) == (0, "", ("a.fa", "b.fa"))
    cluster = {"workers": 3, "threads": 2, "device": "cpu", "scheduler": "tcp://10.0.0.1:8786"}
    assert seen["settings"] == Settings(
        model="mini",
        length=300,
        precision="bf16",
        max_tokens=7,
        persistent_models=False,
        features=False,
        features_dtype="float16",
        fdr=0.05,
        cluster=ClusterSettings(**cluster),
    )
    assert (seen["resume"], seen["force"], seen["keep"]) == (False, True, (preset,))


def test_options_not_given_leave_the_defaults_and_the_summary_is_printed(command, seen, tmp_path):
    _, out, _ = command("run", "a.fa", "-o", tmp_path)
    assert seen["settings"] == Settings()
    assert "virus contigs   1  (others 2, unscored 3)" in out


def test_failed_partitions_are_exit_code_5(command, monkeypatch, seen, tmp_path):
    ran = running.run
    failures = (Failure(0, "why", (0, 3)),)
    monkeypatch.setattr(running, "run", lambda *a, **k: replace(ran(*a, **k), failures=failures))
    code, _, err = command("run", "a.fa", "-o", tmp_path)
    assert (code, "failed.tsv" in err, "--resume" in err) == (5, True, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "a.fa"],
        ["run", "a.fa", "-o", "out", "--cluster", "abacus"],
        ["run", "a.fa", "-o", "out", "--resume", "--force"],
        ["run", "a.fa", "-o", "out", "--workers", "0"],
        ["walk"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(command, arguments):
    code, _, err = command(*arguments)
    assert code == 2
    assert "Traceback" not in err


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder of good and bad input files."""
    (tmp_path / "good.fa").write_text(f">contig\n{DNA}\n")
    (tmp_path / "empty.fa").write_text("")
    (tmp_path / "cut.fa.gz").write_bytes(gzip.compress(f">c\n{DNA}\n".encode() * 99)[:-30])
    (tmp_path / "twins.fa").write_text(f">twin\n{DNA}\n>other\n{DNA}\n>twin\n{DNA[:600]}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("cluster", "content"), [(("none",), None), (("cpu", "--workers", 1), b"")]
)
def test_a_damaged_model_set_is_exit_code_4(command, inputs, parity_modelset, cluster, content):
    folder = shutil.copytree(parity_modelset, inputs / "damaged")
    weights = bytearray((folder / "classifier.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "classifier.safetensors").write_bytes(weights if content is None else content)
    way = ("--model", folder, "-o", inputs / "out", "--cluster", *cluster)
    for command_line in (("run", inputs / "good.fa", *way), ("models", "verify", folder)):
        code, _, err = command(*command_line)
        assert (code, "classifier.safetensors: " in err, "damaged" in err) == (4, True, True)
        assert "Traceback" not in err


def test_no_such_model_set_is_exit_code_4(command, inputs):
    code, _, err = command("run", inputs / "good.fa", "-o", inputs / "out", "--model", "maxi")
    assert (code, "'maxi'" in err, (inputs / "out").exists()) == (4, True, False)


def test_cuda_without_a_gpu_is_exit_code_6_and_says_why(command, inputs, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, _, err = command("run", inputs / "good.fa", "-o", inputs / "out", "--cluster", "cuda")
    assert code == 6
    assert "--cluster cuda: CUDA_VISIBLE_DEVICES is empty" in err
    assert not (inputs / "out").exists()


def test_an_empty_file_gives_header_only_files_and_a_warning(run_here, inputs):
    code, _, err = run_here(inputs / "empty.fa")
    out = inputs / "out"
    assert code == 0
    assert "no records" in err
    assert (out / "prediction_results.txt").read_text() == (
        "Sequence_ID\tPrediction\tscore1\tscore2\n"
    )
    assert (out / "prediction_results_highestscore.csv").read_text() == "Modified_ID\tIs_Virus\n"
    assert len((out / "contigs.tsv").read_text().splitlines()) == 1
    assert (out / "virus.fasta").read_text() == ""


def test_records_with_the_same_id_are_kept_apart_with_a_warning(run_here, inputs):
    code, _, err = run_here(inputs / "twins.fa")
    assert code == 0
    assert "1 record(s) repeat an id" in err
    rows = [r.split("\t") for r in (inputs / "out/contigs.tsv").read_text().splitlines()[1:]]
    assert [(row[0], int(row[1])) for row in rows] == [("twin", 720), ("other", 720), ("twin", 600)]
    # All three are the same DNA in frame, so the same score: none got another's chunks.
    assert {row[3] for row in rows} == {"2"}


def test_a_folder_with_a_run_needs_resume_or_force(run_here, inputs):
    assert run_here(inputs / "cut.fa.gz")[0] == 3, "which leaves nothing in the way"
    assert run_here(inputs / "good.fa")[0] == 0
    code, _, err = run_here(inputs / "good.fa")
    assert code == 2
    assert "--resume" in err
    assert "--force" in err
    assert run_here(inputs / "good.fa", "--resume")[0] == 0
    assert run_here(inputs / "twins.fa", "--force")[0] == 0
    assert len((inputs / "out/contigs.tsv").read_text().splitlines()) == 4


def everything(folder: Path) -> dict[str, bytes]:
    """All files but the log, which tells of refused runs, too."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.log.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_earlier_run_is_whole_until_another_plan_stands(run_here, inputs, monkeypatch):
    (inputs / "protein.fa").write_text(">p\nMEFLPQ\n")
    run_here(inputs / "twins.fa")
    before = everything(inputs / "out")
    for file in ("protein.fa", "cut.fa.gz"):
        assert run_here(inputs / file, "--force")[0] == 3
        assert everything(inputs / "out") == before
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full_disk)
        code, _, err = run_here(inputs / "good.fa", "--force")
    assert (code, "No space left on device" in err) == (5, True)
    assert everything(inputs / "out") == before
    assert run_here(inputs / "good.fa", "--resume")[0] == 2
    assert everything(inputs / "out") == before
    assert run_here(inputs / "twins.fa", "--resume")[0] == 0


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_kill_right_after_the_plan_stands_leaves_a_run_that_can_be_resumed(
    run_here, inputs, monkeypatch
):
    run_here(inputs / "twins.fa")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "clear", interrupt)
        assert run_here(inputs / "good.fa", "--force")[0] == 130
    assert run_here(inputs / "good.fa")[0] == 2, "the new run is there already"
    assert not (inputs / "out/contigs.tsv").exists()
    assert run_here(inputs / "good.fa", "--resume")[0] == 0
    assert len((inputs / "out/contigs.tsv").read_text().splitlines()) == 2


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_run_takes_no_file_but_its_own(command, run_here, inputs, monkeypatch):
    code, _, err = command("run", inputs / "good.fa", "-o", inputs, "--force", "--cluster", "none")
    assert (code, "no earlier run" in err) == (2, True)
    run_here(inputs / "good.fa")
    (inputs / "out/features/my_experiment.npy").write_text("mine")
    (inputs / "link.fa").symlink_to(inputs / "out/virus.fasta")
    before = everything(inputs / "out")
    monkeypatch.chdir(inputs / "out")
    for name in ("virus.fasta", inputs / "out/virus.fasta", inputs / "link.fa"):
        code, _, err = run_here(name, "--force")
        assert (code, "virus.fasta is replaced" in err) == (2, True)
    assert everything(inputs / "out") == before
    assert run_here(inputs / "twins.fa", "--force")[0] == 0
    assert (inputs / "out/features/my_experiment.npy").read_text() == "mine"
    (inputs / "out/contigs.tsv").write_text("mine, and longer than before")
    for way in ("--force", "--resume"):
        code, _, err = run_here(inputs / "twins.fa", way)
        assert (code, "contigs.tsv: is not as the run left it" in err) == (2, True)
    assert command("predict", inputs / "out", "--cluster", "none")[0] == 2
    assert (inputs / "out/contigs.tsv").read_text() == "mine, and longer than before"


def test_a_dry_run_counts_and_writes_nothing(run_here, inputs):
    code, out, _ = run_here(inputs / "twins.fa", "--dry-run")
    assert code == 0
    assert "3 records, 2040 nt, 6 chunks" in out
    assert not (inputs / "out").exists()


def test_a_false_discovery_rate_without_a_calibration_is_exit_code_2(command, run_here, inputs):
    for extra in ((), ("--dry-run",)):
        code, _, err = run_here(inputs / "good.fa", "--fdr", 0.05, *extra)
        assert code == 2
        assert "--fdr: model set 'parity' has no calibration for chunks of 500 nt" in err
        assert not (inputs / "out").exists()
    run_here(inputs / "good.fa")
    before = (inputs / "out/run.json").read_bytes()
    code, _, err = command("predict", inputs / "out", "--fdr", 0.05, "--cluster", "none")
    assert (code, "no calibration" in err) == (2, True)
    assert (inputs / "out/run.json").read_bytes() == before


def test_the_summary_says_how_records_were_called_where_a_rate_was_asked_for(tmp_path):
    found = {
        "contigs": {"virus": 1, "others": 0, "unscored": 0},
        **dict.fromkeys(("records", "chunks", "chunks_scored", "frames"), 1),
        "elapsed_s": 1.0,
        "highest": [{"record_id": "c", "score": 0.5, "probability": 0.875, "call": "virus"}],
        "called_by": "q_value <= 0.05",
        "prevalence": 0.123,
    }
    told = running.summary_text(Run(tmp_path, found | {"fdr": 0.05}))
    assert "called by       q_value <= 0.05  (estimated share of viruses 12.3%)\n" in told
    assert "0.500  probability 0.875  virus   c\n" in told
    assert "called by" not in running.summary_text(Run(tmp_path, found | {"fdr": None}))


def test_predict_scores_again(command, run_here, inputs):
    run_here(inputs / "good.fa")
    results = inputs / "out/prediction_results.txt"
    first = results.read_bytes()
    results.unlink()
    code, out, _ = command("predict", inputs / "out", "--cluster", "none")
    assert code == 0
    assert results.read_bytes() == first
    assert "virus contigs" in out
    assert command("predict", inputs)[0] == 3


def test_run_json_says_what_was_done_with_what(run_here, inputs, parity_modelset):
    run_here(inputs / "good.fa")
    content = json.loads((inputs / "out/run.json").read_text())
    assert content["inputs"] == [str(inputs / "good.fa")]
    assert content["settings"]["model"] == str(parity_modelset)
    assert set(content["modelset"]["files"]) >= {"classifier.safetensors", "peptide.safetensors"}
    assert content["versions"]["torch"]
    assert set(content["summary"]["stage_s"]) >= {"nucleotide", "peptide", "predict", "finish"}
    assert content["plan"]["counts"]["records"] == 1


def test_model_sets_are_listed_shown_and_verified(command, parity_modelset):
    code, out, _ = command("models", "list")
    assert (code, out.split("\t")[0]) == (0, "mini")
    code, out, _ = command("models", "show", parity_modelset)
    assert code == 0
    assert "classifier.safetensors" in out
    code, out, _ = command("models", "verify", parity_modelset)
    assert (code, "are what they should be" in out) == (0, True)


def test_the_help_names_the_commands_wanted_most_first(command):
    code, out, _ = command("--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line]
    assert code == 0
    wanted = "run predict status report compare doctor evaluate train pretrain models bench"
    assert listed == wanted.split()
