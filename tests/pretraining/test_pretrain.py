"""``pretrain`` from files to a model set that runs, with a stand-in for MMseqs2."""

import hashlib
import json
import os
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from virnuc_dask import cli, load_settings, pretrain, run
from virnuc_dask.errors import (
    BadSettingError,
    OutputExistsError,
    OutputInUseError,
    PlanChangedError,
    UsageError,
)
from virnuc_dask.modelsets.registry import read_info, verify
from virnuc_dask.pretrain import pretrain as make
from virnuc_dask.pretraining import material, members
from virnuc_dask.pretraining.card import PretrainingReport
from virnuc_dask.pretraining.genes import PARTS, TEST, VALIDATION, part_of
from virnuc_dask.pretraining.recipe import PretrainSettings
from virnuc_dask.pretraining.transformer_recipe import TransformerRecipe
from virnuc_dask.quality import plots

LENGTH = 300
SHARES = {TEST: 0.3, VALIDATION: 0.3}
SETTINGS = {
    "name": "toy",
    "version": "1.2.3",
    "licence": "CC0",
    "notes": "Made by a *test*.",
    "chunk_lengths": [LENGTH],
    "split": SHARES,
    "threads": 1,
    "ngrams": {
        "members": 2,
        "width": 4,
        "hidden": 8,
        "steps": 30,
        "batch": 48,
        "steps_between_checks": 15,
        "learning_rate": 0.01,
        "table_learning_rate": 0.05,
        "averaging": 0.8,
    },
}
WEIGHTS = ("classifier.safetensors", "nucleotide.safetensors", "peptide.safetensors")


@pytest.fixture(scope="module")
def files(coding, tmp_path_factory) -> dict[str, Path]:
    """Markers of 50 viruses and 30 bacteria, genes of each label, a whole genome."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)

    def drawn(name: str, favourite: str, codons: int = 0) -> str:
        return f">{name}\n{coding(rng, codons or rng.randrange(180, 240), favourite)}\n"

    texts = {
        "markers.fasta": [drawn(f"GeneID:{50 * b + n}", "A") for b in range(50) for n in range(4)]
        + [
            drawn(f"gi|{b}|ref|NC_{b}.1|:{900 * n + 1}-{900 * n + 900}", "C")
            for b in range(30)
            for n in range(4)
        ],
        "phages.fa": [drawn(f"phage{n}", "A") for n in range(10)],
        "bacteria.fa": [drawn(f"bacterium{n}", "C") for n in range(10)],
        "yeast.fa": [drawn("chrI", "C", 2_000)],
    }
    held_out = next(b for b in range(50) if part_of(f"GeneID:{b}", SHARES) == TEST)
    other = next(b for b in range(30) if part_of(f"NC_{b}", SHARES) not in SHARES)
    lines = "".join(texts["markers.fasta"]).split("\n")
    dna = dict(zip(lines[::2], lines[1::2], strict=False))
    alike = dna[f">GeneID:{50 * held_out}"][:300]
    texts["markers.fasta"].append(f">gi|9|ref|NC_{other}.1|:9-9\n{alike}{'GCC' * 90}\n")
    for name, records in texts.items():
        (folder / name).write_text("".join(records))
    return {name: folder / name for name in texts}


@pytest.fixture(scope="module")
def settings(files, tmp_path_factory) -> PretrainSettings:
    folder = tmp_path_factory.mktemp("made")
    data = {
        "markers": str(files["markers.fasta"]),
        "virus": [str(files["phages.fa"])],
        "other": [str(files["bacteria.fa"])],
        "genomes": [str(files["yeast.fa"])],
    }
    places = {"out": str(folder / "toy"), "work": str(folder / "work"), "data": data}
    return PretrainSettings.of(SETTINGS | places, "pretrain")


@pytest.fixture(scope="module", autouse=True)
def smaller(write_mmseqs, tmp_path_factory):
    """A stand-in on PATH, little noise, no plots; only this module's trainings see them."""
    programs = tmp_path_factory.mktemp("programs") / "bin"
    write_mmseqs(programs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        patched.setattr(material, "_NOISE_WINDOWS", 100)
        patched.setattr(plots, "draw", lambda _: [])  # as test_evaluate.py has them drawn
        yield


@pytest.fixture(scope="module")
def made(settings, smaller):
    return make(settings)


@pytest.fixture
def unmeasured(made, monkeypatch):
    """Trainings after the first one take its figures: measuring takes longest."""
    monkeypatch.setattr("virnuc_dask.pretrain._measure", lambda *_: made.evaluations)


@pytest.fixture
def trained_seeds(monkeypatch) -> list[int]:
    """Seeds of the members that are trained, not read: in this process, untrained."""
    seeds = []

    def train_member(source, validation, recipe, seed, path, fingerprint):
        seeds.append(seed)
        raise RuntimeError("a member is trained")

    monkeypatch.setattr(members, "_train_member", train_member)
    return seeds


def contents(folder) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in WEIGHTS}


def test_the_model_set_verifies_and_is_calibrated(made, settings):
    info = read_info(Path(settings.out))
    verify(Path(settings.out), info)
    assert (info.name, info.version, info.licence) == ("toy", "1.2.3", "CC0")
    assert info.chunk_lengths == (LENGTH,)
    calibration = info.calibration_for(LENGTH)
    assert calibration.method == made.calibrations[LENGTH]
    assert "validation contigs" in calibration.method
    assert made.sha256["markers.fasta"] in info.training_data


def test_it_tells_the_styles_apart(made):
    for name in ("genes", "contigs"):
        (evaluation,) = made.evaluations[name]["evaluations"]
        assert evaluation["levels"]["chunks"]["auroc"] > 0.9
        assert evaluation["levels"]["contigs"]["auroc"] > 0.9


def test_it_runs_and_finds_the_viruses(made, settings, coding, tmp_path):
    rng = random.Random(7)
    path = tmp_path / "new.fa"
    path.write_text(
        "".join(f">{style}{n}\n{coding(rng, 400, style)}\n" for style in "AC" for n in range(10))
    )
    flags = {"model": settings.out, "cluster.kind": "none", "cluster.threads": 1}
    done = run([path], tmp_path / "out", settings=load_settings(flags=flags))
    lines = (done.folder / "contigs.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]
    right = [(row["call"] == "virus") == row["record_id"].startswith("A") for row in rows]
    assert len(right) == 20
    assert sum(right) >= 18


def test_report_and_manifest_hold_the_figures_of_the_evaluation(made, settings):
    work = Path(settings.work)
    report = json.loads((work / "report.json").read_text())
    assert report == json.loads(json.dumps(made.as_json()))
    for name in ("genes", "contigs", "noise"):
        path = work / "evaluation" / name / "evaluation.json"
        (written,) = json.loads(path.read_text())["evaluations"]
        (kept,) = report["evaluations"][name]["evaluations"]
        assert kept == {key: value for key, value in written.items() if key != "curves"}
    chunks = made.evaluations["genes"]["evaluations"][0]["levels"]["chunks"]
    quality = read_info(Path(settings.out)).quality[str(LENGTH)]
    assert quality["auroc"] == chunks["auroc"]
    assert quality == {name: chunks[name] for name in quality}
    assert [len(history) for history in report["histories"]] == [2, 2]


def test_what_is_measured_is_what_is_installed(made, settings):
    modelset = made.evaluations["genes"]["evaluations"][0]["modelset"]
    info = read_info(Path(settings.out))
    assert modelset["checksum"] == info.checksum
    assert modelset["files"] == dict(info.files)
    assert contents(settings.out) == contents(Path(settings.work) / "modelset")


def test_relatives_of_held_out_genes_are_left_out_and_counted(made):
    assert made.left_out["similar to a held-out gene"] == 1
    assert made.left_out["copy"] == 0
    assert {part: made.counts[part]["genome"] for part in PARTS} == {
        "train": 1,
        "validation": 0,
        "test": 0,
    }
    assert sum(made.counts[part]["virus"] for part in PARTS) == 210


def test_the_card_holds_data_split_and_figures(made, settings, files):
    card = (Path(settings.out) / "README.md").read_text()
    assert card == made.card()
    assert card.startswith("# toy 1.2.3\n")
    for path in files.values():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"- `{path.name}`, SHA-256 `{digest}`" in card
    assert "Made by a *test*." in card
    assert "30% for the test and 30% for validation" in card
    for name in ("genes", "contigs"):
        (evaluation,) = made.evaluations[name]["evaluations"]
        for key in ("auroc", "average_precision", "f1", "recall_at_fpr_0.01"):
            level = "chunks" if name == "genes" else "contigs"
            assert f"{evaluation['levels'][level][key]:.3f}" in card
    assert "1 similar to a held-out gene" in card
    assert f"Calibrated on {LENGTH} nt: {made.calibrations[LENGTH]}." in card
    for noise in ("random", "same_dinucleotides", "shuffled"):
        assert f"| {noise}, {LENGTH} nt | " in card
    assert card.endswith("## Licence\n\nCC0\n")
    assert "4 values a table" not in card
    assert "8 values a table" in card


def test_the_summary_names_the_figures(made):
    chunks, contigs = (
        made.evaluations[name]["evaluations"][0]["levels"][level]["auroc"]
        for name, level in (("genes", "chunks"), ("contigs", "contigs"))
    )
    assert made.summary() == (
        f"{LENGTH} nt: AUROC of chunks {chunks:.3f}, of contigs {contigs:.3f}"
    )


def test_a_model_set_is_replaced_only_when_told(made, settings, unmeasured, trained_seeds):
    before = contents(settings.out)
    with pytest.raises(OutputExistsError, match="--force"):
        make(settings)
    stray = Path(settings.out) / "stray.txt"
    stray.write_text("mine")
    with pytest.raises(OutputExistsError, match=r"stray\.txt"):
        make(settings, force=True)
    stray.unlink()
    again = make(settings, force=True)
    assert contents(settings.out) == before
    assert again.calibrations == made.calibrations
    assert trained_seeds == []


def test_members_are_reused_when_the_model_set_is_gone(
    made, settings, unmeasured, trained_seeds, tmp_path
):
    elsewhere = replace(settings, out=str(tmp_path / "again"))
    again = make(elsewhere)
    assert trained_seeds == []
    assert again.histories == made.histories
    assert contents(elsewhere.out) == contents(settings.out)
    assert read_info(Path(elsewhere.out)) == read_info(Path(settings.out))


def test_another_seed_does_not_take_the_members_of_the_first(made, settings, tmp_path):
    with pytest.raises(PlanChangedError, match=r"member-00\.safetensors: was trained on other"):
        make(replace(settings, seed=2, out=str(tmp_path / "again")))


def test_what_is_no_model_set_is_never_replaced(made, settings, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="thesis"):
        make(replace(settings, out=str(out)), force=True)
    assert (out / "thesis.tex").exists()


def test_what_appears_while_it_trains_is_not_replaced(made, settings, monkeypatch, tmp_path):
    out = tmp_path / "again"

    def meanwhile(job):
        out.mkdir()
        return made

    monkeypatch.setattr("virnuc_dask.pretrain._pretrain", meanwhile)
    with pytest.raises(OutputExistsError, match="again"):
        make(replace(settings, out=str(out)))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "work"), [("a", "a"), ("a", "a/work"), ("a/modelset", "a"), ("a/../b", "b")]
)
def test_the_folders_hold_nothing_of_each_other(settings, tmp_path, out, work):
    places = {"out": str(tmp_path / out), "work": str(tmp_path / work)}
    with pytest.raises(UsageError, match="neither folder may hold the other"):
        make(replace(settings, **places))
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_do_not_share_a_folder(settings, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with (
        FileLock(work / ".lock"),
        pytest.raises(OutputInUseError, match="another training is writing"),
    ):
        make(replace(settings, out=str(tmp_path / "toy"), work=str(work)))


@pytest.fixture
def command(files, tmp_path, monkeypatch, capsys):
    """Runs ``virnuc-dask pretrain`` with changed settings: exit code and what is printed."""

    def execute(*flags: str, data=None, **changes) -> tuple[int, str]:
        places = {"out": str(tmp_path / "toy"), "work": str(tmp_path / "work")}
        places["data"] = data or {"markers": str(files["markers.fasta"])}
        config = tmp_path / "toy.yaml"
        config.write_text(yaml.safe_dump({"pretrain": SETTINGS | places | changes}))
        monkeypatch.setattr(sys, "argv", ["virnuc-dask", "pretrain", str(config), *flags])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.err + printed.out

    return execute


def test_a_missing_file_ends_with_3(command):
    code, told = command("--quiet", data={"markers": "none.fasta"})
    assert code == 3
    assert "error: none.fasta: cannot be read" in told


def test_a_wrong_checksum_ends_with_3(command, files):
    data = {"markers": str(files["markers.fasta"]), "sha256": ["0" * 64]}
    code, told = command("--quiet", data=data)
    assert code == 3
    assert "error: markers.fasta: its SHA-256 is " in told


def test_missing_mmseqs_ends_with_2(command, no_mmseqs):
    code, told = command("--quiet")
    assert code == 2
    assert "error: the split by homology needs MMseqs2" in told


def test_an_unknown_setting_ends_with_2(command):
    code, told = command("--quiet", epochs=3)
    assert code == 2
    assert "error: unknown setting pretrain.epochs" in told


def test_the_command_tells_the_figures_and_the_folder(command, made, monkeypatch, tmp_path):
    asked = []

    def watched(settings, *, force, console):
        asked.append((settings.name, force, console))
        return made

    monkeypatch.setattr(pretrain, "pretrain", watched)
    code, told = command("--force", "--quiet")
    assert (code, told) == (0, "")
    code, told = command()
    assert (code, told) == (0, f"{made.summary()}\nmodel set  {tmp_path / 'toy'}/\n")
    assert [(name, force) for name, force, _ in asked] == [("toy", True), ("toy", False)]
    assert [console is None for _, _, console in asked] == [True, False]


TINY = {"layers": 1, "heads": 2, "dim": 16}


@pytest.mark.slow
def test_small_transformers_with_their_classifier(settings, smaller, tmp_path, monkeypatch):
    evaluated = []
    monkeypatch.setattr(
        "virnuc_dask.pretrain._measure", lambda job, *_: evaluated.append(job.modelset) or {}
    )
    monkeypatch.setattr(PretrainingReport, "card", lambda _: "# toy\n")
    monkeypatch.setattr(PretrainingReport, "quality", {})
    recipe = {"nucleotide": TINY, "peptide": TINY, "vocabulary": 64, "steps": 4, "warmup_steps": 1}
    recipe |= {"batch_tokens": 2_000, "checkpoint_every_steps": 2, "device": "cpu"}
    small = replace(
        settings,
        name="small",
        out=str(tmp_path / "small"),
        work=str(tmp_path / "work"),
        encoders="transformers",
        transformers=TransformerRecipe.of(recipe),
    )
    make(small)
    info = read_info(tmp_path / "small")
    verify(tmp_path / "small", info)
    assert (info.name, info.version, info.chunk_lengths) == ("small", "1.2.3", (LENGTH,))
    assert (info.nucleotide.architecture, info.peptide.architecture) == ("dnabert_s", "esm2")
    assert info.feature_dim == 32
    assert info.calibration_for(LENGTH) is not None
    assert evaluated == [tmp_path / "work" / "modelset"]
    settings_of_run = load_settings(
        flags={"model": str(tmp_path / "small"), "cluster.kind": "none"}
    )
    found = run([Path(small.data.virus[0])], tmp_path / "out", settings=settings_of_run)
    assert found.summary["chunks_scored"] > 0


def test_transformers_are_for_one_chunk_length(settings):
    with pytest.raises(BadSettingError, match="transformers are made for one"):
        replace(settings, encoders="transformers", chunk_lengths=(500, 300))
