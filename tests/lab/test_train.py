"""A classifier trained end to end: from labelled files to a model set that runs."""

import dataclasses
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

from virnuc_dask import load_settings, run
from virnuc_dask.errors import (
    BadInputError,
    OutputExistsError,
    OutputInUseError,
    PlanChangedError,
    UsageError,
)
from virnuc_dask.lab.train import train
from virnuc_dask.lab.fitting.classifier_report import ClassifierReport
from virnuc_dask.lab.fitting.fit_classifier import ClassifierRecipe, fit_classifier
from virnuc_dask.lab.fitting.frame_features import LabelledRun, store_frames
from virnuc_dask.lab.fitting.groups import PARTS, TEST, TRAINING
from virnuc_dask.lab.fitting.training_options import TrainingOptions, parse_options
from virnuc_dask.lab.fitting.unseen_frames import score_unseen
from virnuc_dask.modelsets.manifest import read_info, verify, write_info
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan

# Codons that each class prefers; none is a stop codon on either strand.
CODONS = {
    "virus": ["AAA", "GAA", "ACA", "AAC", "GAC"],
    "other": ["GCC", "GGC", "CGC", "CTG", "GTC"],
}
RECIPE = ClassifierRecipe(hidden=16, epochs=8, patience=3, learning_rate=1e-2)
OPTIONS = TrainingOptions(shares=(0.5, 0.3, 0.2), recipe=RECIPE, keep_work=True)
RECORDS = 80  # of each class


def gene(kind: str, rng: random.Random, codons: int) -> str:
    shared = [*CODONS["virus"], *CODONS["other"]]
    drawn = (rng.choice(CODONS[kind] if rng.random() < 0.6 else shared) for _ in range(codons))
    return "".join(drawn)


def fasta(kind: str, seed: int, records: int = RECORDS) -> str:
    rng = random.Random(seed)
    names = (f">{kind}{number}" for number in range(records))
    return "".join(f"{name}\n{gene(kind, rng, rng.randint(110, 360))}\n" for name in names)


def genbank(kind: str, seed: int, records: int) -> str:
    rng = random.Random(seed)
    entries = []
    for number in range(records):
        dna = gene(kind, rng, 200)
        entries.append(
            f"LOCUS       {kind}{number:<12} {len(dna):>8} bp    DNA     linear   VRL 01-JAN-2020\n"
            f"VERSION     {kind}{number}.1\n"
            f"FEATURES             Location/Qualifiers\n     CDS             1..{len(dna)}\n"
            f"ORIGIN\n        1 {dna.lower()}\n//\n"
        )
    return "".join(entries)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("records")
    texts = {f"{kind}.fa": fasta(kind, seed=n) for n, kind in enumerate(CODONS)}
    texts |= {f"{kind}.gbk": genbank(kind, n, records=16) for n, kind in enumerate(CODONS)}
    # A record of each class anew, and one that is in both.
    virus, other = texts["virus.fa"].splitlines(), texts["other.fa"].splitlines()
    texts["virus.fa"] += f">again\n{virus[1]}\n>both\n{gene('virus', random.Random(9), 200)}\n"
    texts["other.fa"] += f">again\n{other[3]}\n>both\n{gene('virus', random.Random(9), 200)}\n"
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in texts}


@pytest.fixture(scope="module")
def settings(frames_modelset):
    flags = {"partition_chunks": 64, "cluster.kind": "none", "cluster.threads": 1}
    return load_settings(flags=flags | {"model": str(frames_modelset)})


@pytest.fixture(scope="module")
def trained(files, settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "toy"
    return train([files["virus.fa"]], [files["other.fa"]], out, settings=settings, options=OPTIONS)


def parts_of(trained) -> np.ndarray:
    return np.array([part.records for part in trained.report.parts])


def test_the_model_set_is_whole_and_says_how_good_it_is(trained, frames_modelset):
    info = read_info(trained.folder)
    verify(trained.folder, info)
    base = read_info(frames_modelset)
    assert info == trained.info
    assert (info.name, info.chunk_lengths, info.classifier.hidden) == ("toy", (500,), 16)
    assert info.encoders_checksum == base.encoders_checksum
    assert info.checksum != base.checksum
    assert info.quality["500"]["auroc"] > 0.95
    assert info.quality["500"] == {
        name: trained.report.test["chunks"][name] for name in info.quality["500"]
    }
    assert "500" in info.calibration
    content = json.loads((trained.folder / "training.json").read_text())
    assert content["left_out"] == {"empty": 0, "repeated": 2, "contradictory": 2}
    assert content["test"]["frames"]["n_virus"] > 0


def test_the_card_names_data_split_figures_and_command(trained, files, frames_modelset):
    card = (trained.folder / "README.md").read_text()
    report: ClassifierReport = trained.report
    for file in report.files:
        assert f"`{file.sha256}`" in card
    assert f"{report.test['chunks']['auroc']:.4f}" in card
    given = f"--virus {files['virus.fa']} --other {files['other.fa']} --model {frames_modelset}"
    assert f"train {given}" in card
    assert "--split 50/30/20 --hidden 16 --epochs 8 --patience 3 --seed 1" in card
    assert "share a 31-mer" in card


def test_every_record_is_in_one_part(trained):
    assert parts_of(trained).sum(axis=0).tolist() == [RECORDS, RECORDS]
    assert parts_of(trained).min() > 0


def test_it_runs_and_finds_the_viruses(trained, settings, tmp_path):
    path = tmp_path / "new.fa"
    path.write_text(fasta("virus", seed=11, records=10) + fasta("other", seed=12, records=10))
    chosen = dataclasses.replace(settings, model=str(trained.folder))
    done = run([path], tmp_path / "out", settings=chosen)
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    rows = pyarrow.csv.read_csv(done.folder / "contigs.tsv", parse_options=options).to_pylist()
    right = [(row["probability"] > 0.5) == row["record_id"].startswith("virus") for row in rows]
    assert sum(right) >= 18


def test_the_same_command_gives_the_same_bytes(trained, files, settings):
    before = {path.name: path.read_bytes() for path in trained.folder.iterdir()}
    train(
        [files["virus.fa"]],
        [files["other.fa"]],
        trained.folder,
        settings=settings,
        options=OPTIONS,
        force=True,
    )
    assert {path.name: path.read_bytes() for path in trained.folder.iterdir()} == before


def test_labels_of_the_test_part_change_no_weight(trained, tmp_path):
    work = trained.folder.with_name("toy.work")
    plan = read_plan(RunFolder(work / "run"))
    ids = [line[1:] for line in (work / "records.fasta").read_text().splitlines()[::2]]
    is_virus = np.array([name.startswith("virus") for name in ids])
    part = (np.arange(len(ids)) % len(PARTS)).astype(np.int8)

    def weights(labels):
        labelled = LabelledRun(plan, labels, np.zeros(len(ids), np.int64), part, None)
        _, training, validation = store_frames(labelled, tmp_path)
        state = fit_classifier(training, validation, RECIPE).classifier.state_dict()
        return [tensor.numpy().tobytes() for tensor in state.values()]

    first = weights(is_virus)
    assert weights(np.where(part == TEST, ~is_virus, is_virus)) == first
    assert weights(~is_virus) != first


def test_groups_of_a_table_stay_together(files, settings, tmp_path):
    table = tmp_path / "groups.tsv"
    names = [f"{kind}{number}" for kind in CODONS for number in range(RECORDS)]
    rows = [f"{name}\t{name[:5]}{int(name[5:]) % 7}\n" for name in names]
    table.write_text("".join(rows) + "again\tx\nboth\ty\n")
    options = dataclasses.replace(OPTIONS, groups=table, shares=(0.8, 0.1, 0.1))
    done = train(
        [files["virus.fa"]],
        [files["other.fa"]],
        tmp_path / "toy",
        settings=settings,
        options=options,
    )
    groups = np.array([part.groups for part in done.report.parts])
    assert groups.sum(axis=0).tolist() == [7, 7]
    assert "the groups of `groups.tsv`" in (done.folder / "README.md").read_text()


def test_only_frames_in_a_cds_are_learned_from(files, settings, tmp_path):
    virus, other = [files["virus.gbk"]], [files["other.gbk"]]
    options = dataclasses.replace(OPTIONS, cds_only=True, keep_work=False)
    done = train(virus, other, tmp_path / "toy", settings=settings, options=options)
    training = np.array(done.report.parts[0].frames)
    records = parts_of(done)[0]
    # Two chunks a record, one supported frame each; in the others all its open frames count.
    assert training.tolist() == (2 * records).tolist()
    test = done.report.test
    assert test["frames"]["n_virus"] > test["frames_in_cds"]["n_virus"] == 2 * parts_of(done)[2][0]
    assert done.info.calibration is None
    assert "too few validation records" in (done.folder / "README.md").read_text()
    assert not (tmp_path / "toy.work").exists()


def test_an_interrupted_training_is_resumed_and_a_changed_one_refused(
    trained, files, settings, tmp_path, monkeypatch
):
    out = tmp_path / "toy"
    virus, other = [files["virus.fa"]], [files["other.fa"]]
    way = {"settings": settings, "options": dataclasses.replace(OPTIONS, keep_work=False)}

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("virnuc_dask.lab.train.fit_classifier", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(virus, other, out, **way)
    with pytest.raises(OutputExistsError, match="--resume"):
        train(virus, other, out, **way)
    with pytest.raises(PlanChangedError, match="other input"):
        train(virus, [files["other.gbk"]], out, resume=True, **way)
    done = train(virus, other, out, resume=True, **way)
    assert done.info.files == trained.info.files
    assert not (tmp_path / "toy.work").exists()


@pytest.fixture(scope="module")
def long_files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("long")
    for number, kind in enumerate(CODONS):
        rng = random.Random(number)
        lines = (f">{kind}{n}\n{gene(kind, rng, 2700)}\n" for n in range(30))
        (folder / f"{kind}.fa").write_text("".join(lines))
    return {kind: folder / f"{kind}.fa" for kind in CODONS}


@pytest.fixture(scope="module")
def trained_on_long(long_files, settings, tmp_path_factory):
    """The set, and what its contig model was learned by: the arguments of `score_unseen`."""
    given: list = []

    def spy(run, training, fold, learn):
        given.extend((run, training, fold))
        return score_unseen(run, training, fold, learn)

    options = dataclasses.replace(OPTIONS, shares=(0.8, 0.1, 0.1), keep_work=False)
    out = tmp_path_factory.mktemp("trained") / "long"
    virus, other = [long_files["virus"]], [long_files["other"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("virnuc_dask.lab.train.score_unseen", spy)
        return train(virus, other, out, settings=settings, options=options), given


def test_long_records_teach_a_contig_model(trained_on_long, settings, tmp_path):
    trained, (run_, training, fold) = trained_on_long
    # Five folds of the training records alone, each with both classes.
    assert ((fold >= 0) == (run_.part == TRAINING)).all()
    for number in range(5):
        assert set(run_.is_virus[fold == number]) == {True, False}
    assert set(fold[training.record]) == {0, 1, 2, 3, 4}
    info = read_info(trained.folder)
    verify(trained.folder, info)
    assert info.contig_model.file in info.files
    assert trained.report.test["contigs"]["auroc"] == 1
    assert trained.report.test["contigs_by_mean"]["n_virus"] == parts_of(trained)[TEST][0]
    card = (trained.folder / "README.md").read_text()
    assert f"Learned from {trained.report.contig_model}, drawn from" in card
    assert json.loads((trained.folder / "training.json").read_text())["contig_model"]

    path = tmp_path / "new.fa"
    rng = random.Random(7)
    texts = [f">{kind}{n}\n{gene(kind, rng, 900)}\n" for kind in CODONS for n in range(10)]
    path.write_text("".join(texts) + f">short\n{gene('virus', rng, 100)}\n")
    done = run([path], tmp_path / "out", settings=with_model(settings, trained.folder))
    assert done.summary["called_by"] == "probability >= 0.5"
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    rows = pyarrow.csv.read_csv(done.folder / "contigs.tsv", parse_options=options).to_pylist()
    assert all(
        (row["call"] == "virus") == row["record_id"].startswith("virus") for row in rows[:20]
    )
    # A read is called as without a contig model.
    plain = tmp_path / "plain"
    shutil.copytree(trained.folder, plain)
    write_info(plain, dataclasses.replace(info, contig_model=None))
    other = run([path], tmp_path / "other", settings=with_model(settings, plain))
    without = pyarrow.csv.read_csv(other.folder / "contigs.tsv", parse_options=options).to_pylist()
    assert rows[20]["record_id"] == "short"
    assert rows[20]["score"] == without[20]["score"]
    assert rows[20]["call"] == without[20]["call"]
    assert [row["score"] for row in rows] == [row["score"] for row in without]


def with_model(settings, folder: Path):
    return dataclasses.replace(settings, model=str(folder))


def test_short_records_teach_none_and_that_is_said(files, settings, tmp_path, caplog):
    with caplog.at_level("INFO", logger="virnuc_dask.lab.train"):
        done = train(
            [files["virus.fa"]],
            [files["other.fa"]],
            tmp_path / "toy",
            settings=settings,
            options=dataclasses.replace(OPTIONS, keep_work=False),
        )
    assert [line for line in caplog.messages if line.startswith("no contig model: too few")]
    assert done.info.contig_model is None
    content = json.loads((done.folder / "training.json").read_text())
    assert "contig_model" not in content
    assert "contigs_by_mean" not in content["test"]
    assert "Contig model" not in (done.folder / "README.md").read_text()


def test_two_trainings_do_not_write_to_one_folder(files, settings, tmp_path):
    from filelock import FileLock

    work = tmp_path / "toy.work"
    work.mkdir()
    with FileLock(work / ".lock"), pytest.raises(OutputInUseError, match="another training"):
        train([files["virus.fa"]], [files["other.fa"]], tmp_path / "toy", settings=settings)


def test_what_was_not_made_here_is_never_replaced(files, settings, frames_modelset, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "thesis.txt").touch()
    virus, other = [files["virus.fa"]], [files["other.fa"]]
    with pytest.raises(OutputExistsError, match="no model set"):
        train(virus, other, tmp_path / "toy", settings=settings, force=True)
    with pytest.raises(UsageError, match="the model set to start from"):
        train(virus, other, frames_modelset, settings=settings, force=True)


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """The trained set and its working folder, to be harmed."""
    for name in ("toy", "toy.work"):
        shutil.copytree(trained.folder.with_name(name), tmp_path / name)
    return tmp_path / "toy"


@pytest.mark.parametrize("name", ["toy/thesis.txt", "toy.work/thesis.txt", "toy.work/modelset/x"])
def test_no_file_of_others_is_replaced_or_removed(files, settings, copied, name):
    path = copied.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    if path.parent.name == "modelset":
        shutil.copyfile(copied / "modelset.json", path.with_name("modelset.json"))
    before = everything(copied.parent)
    with pytest.raises(OutputExistsError, match=path.name):
        train([files["virus.fa"]], [files["other.fa"]], copied, settings=settings, force=True)
    assert everything(copied.parent) == before


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_working_folder_of_others_is_left_alone(files, settings, tmp_path):
    work = tmp_path / "toy.work"
    (work / "run").mkdir(parents=True)
    (work / "run" / "thesis.txt").write_text("mine")
    for way in ({}, {"force": True}):
        with pytest.raises(OutputExistsError, match=r"toy\.work"):
            train(
                [files["virus.fa"]], [files["other.fa"]], tmp_path / "toy", settings=settings, **way
            )
    assert (work / "run" / "thesis.txt").read_text() == "mine"


def test_what_is_read_is_not_replaced(files, settings, copied):
    os.link(copied / "README.md", copied.with_name("twin.fa"))
    before = everything(copied.parent)
    for name in (
        copied / "README.md",
        copied.with_name("twin.fa"),
        copied / "../toy.work/records.fasta",
    ):
        with pytest.raises(OutputExistsError, match="would be lost"):
            train([files["virus.fa"]], [name], copied, settings=settings, force=True)
    assert everything(copied.parent) == before


def test_a_model_set_stays_until_another_is_learned(files, settings, copied, parity_dir):
    before = everything(copied)
    protein = copied.with_name("protein.fa")
    protein.write_text(">p\nMEFLPQ\n")
    with pytest.raises(BadInputError, match="no nucleotide"):
        train([files["virus.fa"]], [protein], copied, settings=settings, force=True)
    assert everything(copied) == before
    assert (copied.with_name("toy.work") / "run/run.json").exists()


def test_the_command_trains_and_ends_with_figures(command, files, frames_modelset, tmp_path):
    way = ("--cluster", "none", "--threads", 1, "--split", "60/20/20", "--hidden", 8)
    way += ("--model", frames_modelset)
    code, out, err = command(
        "train",
        *("--virus", files["virus.fa"], files["virus.gbk"], "--other", files["other.fa"]),
        *("--epochs", 2, "--name", "mine", "-o", tmp_path / "new", *way),
    )
    assert code == 0, err
    assert "test chunks" in out
    assert f"model set  {tmp_path / 'new'}/" in out
    assert "epoch 2: loss" in err
    assert [file.name for file in read_files(tmp_path / "new")] == [
        *("virus.fa", "virus.gbk", "other.fa")
    ]
    assert read_info(tmp_path / "new").name == "mine"


def read_files(folder: Path) -> list[Path]:
    content = json.loads((folder / "training.json").read_text())
    return [Path(file["name"]) for file in content["files"]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--virus", "virus.fa", "--other", "none.fa"], 3, "none.fa: no such file"),
        (["--virus", "virus.fa", "--other", "virus.fa"], 2, "given twice"),
        (["--virus", "virus.fa", "--other", "other.fa", "--cds-only"], 2, "needs GenBank"),
        (["--virus", "virus.fa", "--other", "other.fa", "--length", "400"], 2, "500 or 300 nt"),
        (["--virus", "virus.fa", "--other", "other.fa", "--split", "80/20"], 2, "80/10/10"),
        (["--virus", "virus.fa", "--other", "other.fa", "--patience", "0"], 2, "patience"),
        (["--virus", "virus.fa", "--other", "few.fa"], 2, "2 group(s) of others"),
        (["--virus", "virus.fa", "--other", "protein.fa"], 3, "no nucleotide"),
        (["--virus", "virus.fa", "--other", "other.fa", "--model", "none"], 4, "no model set"),
        (["--virus", "virus.fa"], 2, "--other"),
        (["--virus", "virus.fa", "--other", "other.fa", "--resume", "--force"], 2, "exclude"),
    ],
)  # fmt: skip
def test_mistakes_end_with_their_exit_code_and_leave_nothing(
    command, files, frames_modelset, tmp_path, monkeypatch, arguments, code, message
):
    for name in ("virus.fa", "other.fa"):
        (tmp_path / name).write_bytes(files[name].read_bytes())
    (tmp_path / "few.fa").write_text(fasta("other", seed=3, records=2))
    (tmp_path / "protein.fa").write_text(">p\nMEFLPQ\n")
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    way = ("-o", "new", "--cluster", "none", "--model", frames_modelset)
    found, _, err = command("train", *way, *arguments)
    assert (found, message in err) == (code, True), err
    assert set(tmp_path.iterdir()) == before


def test_without_scikit_learn_it_says_what_to_install(files, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("virnuc_dask.lab.train.find_spec", lambda _: None)
    with pytest.raises(
        UsageError, match=r"scikit-learn, lightgbm, numba: pip install 'virnuc-dask\[training\]'"
    ):
        train([files["virus.fa"]], [files["other.fa"]], tmp_path / "toy", settings=settings)
    assert not list(tmp_path.iterdir())


def test_options_are_read_from_text():
    options = parse_options(split="70/20/10", seed=3, name=None, hidden=None, cds_only=True)
    assert options.shares == pytest.approx((0.7, 0.2, 0.1))
    assert (options.recipe.seed, options.recipe.hidden) == (3, ClassifierRecipe().hidden)
    assert (options.cds_only, options.name) == (True, None)
