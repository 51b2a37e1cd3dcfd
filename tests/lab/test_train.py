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
from filelock import FileLock

from virnuc_dask import load_settings, run
from virnuc_dask.errors import (
    BadInputError,
    OutputExistsError,
    OutputInUseError,
    PlanChangedError,
    UsageError,
)
from virnuc_dask.lab.fitting.fit_classifier import fit_classifier
from virnuc_dask.lab.fitting.frame_features import LabelledRun, store_frames
from virnuc_dask.lab.fitting.held_out import score_unseen
from virnuc_dask.lab.fitting.options import PARTS, TEST, TRAINING, TrainingOptions
from virnuc_dask.lab.train import train
from virnuc_dask.modelsets.manifest import ContigModelSpec, read_info, verify, write_info
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan

# Codons that each class prefers; none is a stop codon on either strand.
CODONS = {
    "virus": ["AAA", "GAA", "ACA", "AAC", "GAC"],
    "other": ["GCC", "GGC", "CGC", "CTG", "GTC"],
}
OPTIONS = TrainingOptions(
    split="50/30/20", hidden=16, epochs=8, patience=3, learning_rate=1e-2, keep_work=True
)
RECORDS = 80  # of each class


def gene(kind: str, rng: random.Random, codons: int) -> str:
    shared = [*CODONS["virus"], *CODONS["other"]]
    drawn = (rng.choice(CODONS[kind] if rng.random() < 0.7 else shared) for _ in range(codons))
    return "".join(drawn)


def fasta(kind: str, seed: int, records: int, codons: tuple[int, int] = (110, 360)) -> str:
    rng = random.Random(seed)
    names = (f">{kind}{number}" for number in range(records))
    return "".join(f"{name}\n{gene(kind, rng, rng.randint(*codons))}\n" for name in names)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("records")
    texts = {f"{kind}.fa": fasta(kind, n, RECORDS) for n, kind in enumerate(CODONS)}
    # A record of each class anew, and one that is in both.
    both = f">both\n{gene('virus', random.Random(9), 200)}\n"
    for name, text in texts.items():
        texts[name] += f">again\n{text.splitlines()[3]}\n{both}"
    texts |= {f"long-{kind}.fa": fasta(kind, n, 30, (2700, 2700)) for n, kind in enumerate(CODONS)}
    dna = gene("virus", random.Random(3), 200)
    texts["virus.gbk"] = (
        f"LOCUS       G1           {len(dna):>8} bp    DNA     linear   VRL 01-JAN-2020\n"
        f"ORIGIN\n        1 {dna.lower()}\n//\n"
    )
    texts["few.fa"] = fasta("other", 3, records=2)
    texts["protein.fa"] = ">p\nMEFLPQ\n"
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in texts}


@pytest.fixture(scope="module")
def base(frames_modelset, contig_model, tmp_path_factory) -> Path:
    """A model set to start from, with a contig model that must not be kept."""
    folder = Path(shutil.copytree(frames_modelset, tmp_path_factory.mktemp("base") / "frames"))
    contig_model(1, "frames").save(folder / "contig_model.safetensors")
    spec = ContigModelSpec("contig_model.safetensors")
    write_info(folder, dataclasses.replace(read_info(folder), contig_model=spec))
    return folder


@pytest.fixture(scope="module")
def settings(base):
    flags = {"partition_chunks": 64, "cluster.kind": "none", "cluster.threads": 1}
    return load_settings(flags=flags | {"model": str(base)})


@pytest.fixture(scope="module")
def call(files, settings):
    """Trains on files of these names."""

    def trains(out, other="other.fa", virus="virus.fa", options=OPTIONS, **way):
        given = [files[virus]], [files.get(other, other)]
        return train(*given, out, settings=settings, options=options, **way)

    return trains


@pytest.fixture(scope="module")
def trained(call, tmp_path_factory):
    return call(tmp_path_factory.mktemp("trained") / "toy")


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder: Path) -> list[dict]:
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    return pyarrow.csv.read_csv(folder / "contigs.tsv", parse_options=options).to_pylist()


def test_the_model_set_is_whole_and_says_how_good_it_is(trained, base, files):
    info, report = read_info(trained.folder), trained.report
    verify(trained.folder, info)
    assert info == trained.info
    assert (info.name, info.chunk_lengths, info.classifier.hidden) == ("toy", (500,), 16)
    assert info.encoders_checksum == read_info(base).encoders_checksum
    assert info.quality["500"]["auroc"] > 0.95
    assert info.quality["500"] == {n: report["test"]["chunks"][n] for n in info.quality["500"]}
    assert "500" in info.calibration
    assert info.contig_model is None
    records = np.array([part["records"] for part in report["parts"].values()])
    assert records.sum(axis=0).tolist() == [RECORDS, RECORDS]
    assert records.min() > 0
    assert report["left_out"] == {"empty": 0, "repeated": 2, "contradictory": 2}
    card = (trained.folder / "README.md").read_text()
    assert all(f"`{file['sha256']}`" in card for file in report["files"])
    assert f"{report['test']['chunks']['auroc']:.4f}" in card
    given = f"--virus {files['virus.fa']} --other {files['other.fa']} --model {base}"
    assert f"train {given}" in card
    assert "--split 50/30/20 --hidden 16 --epochs 8 --patience 3 --seed 1" in card
    assert "share a 31-mer" in card
    assert "Contig model" not in card


def test_the_same_command_gives_the_same_bytes(trained, call):
    before = everything(trained.folder)
    call(trained.folder, force=True)
    assert everything(trained.folder) == before


def test_labels_of_the_test_part_change_no_weight(trained, tmp_path):
    plan = read_plan(RunFolder(trained.folder.with_name("toy.work") / "run"))
    records = np.arange(plan.counts.records)
    is_virus = records < RECORDS
    part = (records % len(PARTS)).astype(np.int8)

    def weights(labels):
        labelled = LabelledRun(plan, labels, 0 * records, part)
        _, training, validation = store_frames(labelled, tmp_path)
        state = fit_classifier(training, validation, OPTIONS).classifier.state_dict()
        return [tensor.numpy().tobytes() for tensor in state.values()]

    first = weights(is_virus)
    assert weights(np.where(part == TEST, ~is_virus, is_virus)) == first
    assert weights(~is_virus) != first


def test_groups_of_a_table_stay_together(call, tmp_path):
    table = tmp_path / "groups.tsv"
    names = [f"{kind}{number}" for kind in CODONS for number in range(RECORDS)]
    rows = [f"{name}\t{name[:5]}{int(name[5:]) % 7}\n" for name in names]
    table.write_text("".join(rows) + "again\tx\nboth\ty\n")
    options = dataclasses.replace(OPTIONS, groups=table, split="80/10/10")
    done = call(tmp_path / "toy", options=options)
    groups = np.array([part["groups"] for part in done.report["parts"].values()])
    assert groups.sum(axis=0).tolist() == [7, 7]
    card = (done.folder / "README.md").read_text()
    assert "the groups of `groups.tsv`" in card
    assert done.info.calibration is None
    assert "too few validation records" in card


def test_an_interrupted_training_is_resumed_and_a_changed_one_refused(
    trained, call, tmp_path, monkeypatch
):
    out, options = tmp_path / "toy", dataclasses.replace(OPTIONS, keep_work=False)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("virnuc_dask.lab.train.fit_classifier", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(out, options=options)
    with pytest.raises(OutputExistsError, match="--resume"):
        call(out, options=options)
    with pytest.raises(PlanChangedError, match="other input"):
        call(out, "long-other.fa", options=options, resume=True)
    done = call(out, options=options, resume=True)
    assert done.info.files == trained.info.files
    assert not (tmp_path / "toy.work").exists()


@pytest.fixture(scope="module")
def trained_on_long(call, tmp_path_factory):
    """The set, and what its contig model was learned by: the arguments of `score_unseen`."""
    given: list = []

    def spy(run, training, fold, learn):
        given.extend((run, training, fold))
        return score_unseen(run, training, fold, learn)

    options = dataclasses.replace(OPTIONS, split="80/10/10", keep_work=False)
    out = tmp_path_factory.mktemp("trained") / "long"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("virnuc_dask.lab.train.score_unseen", spy)
        return call(out, "long-other.fa", "long-virus.fa", options), given


def test_long_records_teach_a_contig_model(trained_on_long):
    trained, (run_, training, fold) = trained_on_long
    # Five folds of the training records alone, each with both classes.
    assert ((fold >= 0) == (run_.part == TRAINING)).all()
    for number in range(5):
        assert set(run_.is_virus[fold == number]) == {True, False}
    assert set(fold[training.record]) == {0, 1, 2, 3, 4}
    info, report = trained.info, trained.report
    verify(trained.folder, info)
    assert info.contig_model.file in info.files
    assert report["test"]["contigs"]["auroc"] == 1
    assert report["test"]["contigs"]["n_virus"] == report["parts"]["test"]["records"][0]
    card = (trained.folder / "README.md").read_text()
    assert f"Learned from {report['contig_model']}, drawn from" in card


def test_a_set_with_a_contig_model_finds_viruses(trained_on_long, settings, tmp_path):
    trained, _ = trained_on_long
    path = tmp_path / "new.fa"
    long = "".join(fasta(kind, 7, 10, (900, 900)) for kind in CODONS)
    path.write_text(f"{long}>short\n{gene('virus', random.Random(7), 100)}\n")
    plain = Path(shutil.copytree(trained.folder, tmp_path / "plain"))
    write_info(plain, dataclasses.replace(trained.info, contig_model=None))
    found = []
    for folder in (trained.folder, plain):
        chosen = dataclasses.replace(settings, model=str(folder))
        done = run([path], tmp_path / f"out-{folder.name}", settings=chosen)
        found.append(rows_of(done.folder))
    rows, without = found
    for row in rows[:20]:
        assert (row["call"] == "virus") == row["record_id"].startswith("virus")
    # A read is called as without a contig model, and scores are what they are.
    assert rows[20]["call"] == without[20]["call"]
    assert [row["score"] for row in rows] == [row["score"] for row in without]


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """The trained set and its working folder, to be harmed."""
    for name in ("toy", "toy.work"):
        shutil.copytree(trained.folder.with_name(name), tmp_path / name)
    return tmp_path / "toy"


@pytest.mark.parametrize(
    "name",
    [
        *("toy/thesis.txt", "toy.work/thesis.txt", "toy.work/modelset/x"),
        *("strange/thesis.txt", "new.work/run/thesis.txt"),
    ],
)
def test_no_file_of_others_is_replaced_or_removed(call, copied, name):
    path = copied.parent / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("mine")
    if path.parent.name == "modelset":
        shutil.copyfile(copied / "modelset.json", path.with_name("modelset.json"))
    out = copied.parent / Path(name).parts[0].removesuffix(".work")
    before = everything(copied.parent)
    with pytest.raises(OutputExistsError, match=r"no model set|is no part of a"):
        call(out, force=True)
    assert everything(copied.parent) == before


def test_a_model_set_stays_until_another_is_learned_and_what_is_read_is_not_replaced(
    call, copied, base
):
    os.link(copied / "README.md", copied.with_name("twin.fa"))
    before = everything(copied.parent)
    with pytest.raises(BadInputError, match="no nucleotide"):
        call(copied, "protein.fa", force=True)
    lock = FileLock(copied.with_name("toy.work") / ".lock")
    with lock, pytest.raises(OutputInUseError, match="another training"):
        call(copied, force=True)
    for name in ("toy/README.md", "twin.fa", "toy.work/records.fasta"):
        with pytest.raises(OutputExistsError, match="would be lost"):
            call(copied, copied.parent / name, force=True)
    with pytest.raises(UsageError, match="the model set to start from"):
        call(base, force=True)
    assert everything(copied.parent) == before


def test_the_command_trains_and_ends_with_figures(command, files, base, tmp_path):
    way = ("--cluster", "none", "--threads", 1, "--split", "60/20/20", "--hidden", 8)
    code, out, err = command(
        "train",
        *("--virus", files["virus.fa"], files["virus.gbk"], "--other", files["other.fa"]),
        *("--epochs", 2, "--name", "mine", "-o", tmp_path / "new", "--model", base, *way),
    )
    assert code == 0, err
    assert "test chunks" in out
    assert f"model set  {tmp_path / 'new'}/" in out
    assert "epoch 2: loss" in err
    assert "no contig model: too few" in err
    content = json.loads((tmp_path / "new/training.json").read_text())
    assert [file["name"] for file in content["files"]] == ["virus.fa", "virus.gbk", "other.fa"]
    assert read_info(tmp_path / "new").name == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("none.fa", 3, "none.fa: no such file"),
        ("virus.fa", 2, "given twice"),
        ("other.fa --length 400", 2, "500 or 300 nt"),
        ("other.fa --split 80/20", 2, "80/10/10"),
        ("other.fa --split 80/10/20", 2, "sum to 100"),
        ("other.fa --patience 0", 2, "patience"),
        ("few.fa", 2, "2 group(s) of others"),
        ("protein.fa", 3, "no nucleotide"),
        ("other.fa --model none", 4, "no model set"),
        ("other.fa --resume --force", 2, "exclude"),
    ],
)
def test_mistakes_end_with_their_exit_code_and_leave_nothing(
    command, files, base, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(files["virus.fa"].parent)
    before = set(Path().iterdir())
    way = ("-o", tmp_path / "new", "--cluster", "none", "--model", base)
    found, _, err = command("train", *way, "--virus", "virus.fa", "--other", *arguments.split())
    assert (found, message in err) == (code, True), err
    assert set(Path().iterdir()) == before
    assert not list(tmp_path.iterdir())
