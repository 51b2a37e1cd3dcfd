"""``evaluate``, end to end, on pieces of the demo's records."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import (
    BadInputError,
    OutputExistsError,
    PlanChangedError,
    UsageError,
)
from virnuc_dask.lab.evaluate import evaluate, summary_lines
from virnuc_dask.modelsets.manifest import ContigModelSpec, read_info, write_info
from virnuc_dask.sequences.records import read_records

SETTINGS = Settings(cluster=ClusterSettings(kind="none", threads=1), partition_chunks=40)
PHAGE = "Escherichia_phage_lambda"


def pieces(record, length_nt, count):
    """Pieces of a record, spread over it."""
    starts = np.linspace(0, len(record.dna) - length_nt, count).astype(int)
    return [record.dna[start : start + length_nt] for start in starts]


def write(path, sequences):
    # All ids are the same: records are told apart by their place.
    path.write_text("".join(f">x\n{dna}\n" for dna in sequences))
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve pieces of a phage; twelve of bacteria, and twelve of random order."""
    folder = tmp_path_factory.mktemp("files")
    phage, *bacteria = read_records([str(Path(__file__).parents[1] / "data/demo.fasta.gz")])
    assert phage.id == PHAGE
    bacterial = [piece for record in bacteria for piece in pieces(record, 1_500, 1)]
    rng = random.Random(0)
    shuffled = ["".join(rng.sample(dna, len(dna))) for dna in bacterial]
    return {
        "phage": write(folder / "phage.fa", pieces(phage, 1_500, 12)),
        "bacteria": write(folder / "bacteria.fa", bacterial),
        "shuffled": write(folder / "shuffled.fa", shuffled),
    }


@pytest.fixture(scope="module")
def evaluated(files, frames_modelset, parity_modelset, tmp_path_factory):
    """Folder and content of an evaluation of both tiny random sets, side by side."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    sets, other = (frames_modelset, parity_modelset), (files["bacteria"], files["shuffled"])
    return out, evaluate(sets, [files["phage"]], other, out, SETTINGS)


def test_what_it_leaves(evaluated):
    out, content = evaluated
    assert json.loads((out / "evaluation.json").read_text()) == content
    assert (out / "evaluation.html").read_text().startswith("<!doctype html>")
    for name in ("roc", "precision-recall", "pairs"):
        assert (out / f"plots/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"plots/{name}.svg").read_text()
    labels = ["frames (500 nt)", "parity (500 nt)"]
    assert [e["label"] for e in content["evaluations"]] == labels
    for e in content["evaluations"]:
        assert [g["total"] for g in e["groups"]] == [12, 12, 12]
        assert [(p["virus"], p["others"]) for p in e["pairs"]] == [
            ("phage", "bacteria"),
            ("phage", "shuffled"),
        ]
    printed = "\n".join(summary_lines(content))
    assert printed.count("parity (500 nt)") == 2
    assert f"{content['evaluations'][0]['contigs']['auroc']:.4f}" in printed


def test_resuming_gives_the_same_and_computes_nothing(
    evaluated, files, frames_modelset, parity_modelset
):
    out, content = evaluated
    tables = [*out.glob("runs/*/predictions/*.parquet")]
    before = {path: path.stat().st_mtime_ns for path in tables}
    sets, other = (frames_modelset, parity_modelset), (files["bacteria"], files["shuffled"])
    with pytest.raises(OutputExistsError, match="--resume"):
        evaluate(sets, [files["phage"]], other, out, SETTINGS)
    again = evaluate(sets, [files["phage"]], other, out, SETTINGS, resume=True)
    assert again == content
    assert len(tables) > 2
    assert {path: path.stat().st_mtime_ns for path in tables} == before


@pytest.fixture(scope="module")
def of_both_readings(files, genes_modelset, frames_modelset, contig_model, tmp_path_factory):
    """Folder and content of an evaluation of a set that reads genes, and of one that reads frames.

    The latter has a contig model, which is unsure of some.
    """
    folder = tmp_path_factory.mktemp("readings")
    frames = Path(shutil.copytree(frames_modelset, folder / "frames"))
    contig_model(1, "frames").save(frames / "contig_model.safetensors")
    spec = ContigModelSpec("contig_model.safetensors", called=((1, 0.5),), reliable=0.7)
    write_info(frames, replace(read_info(frames), contig_model=spec))
    short = [piece[:250] for piece in (record.dna for record in read_records([files["bacteria"]]))]
    short = write(folder / "short.fa", [*short, "TTAGTTAATTAACTAA" * 60])  # stops in every frame
    given = ([genes_modelset, frames], [files["phage"]], [files["bacteria"], short])
    # Neither the length nor the caller is for both.
    settings = replace(SETTINGS, gene_caller="fast")
    return folder / "out", evaluate(*given, folder / "out", settings, lengths=(300,))


def test_a_set_that_reads_genes_is_measured_beside_one_that_reads_frames(of_both_readings):
    _, content = of_both_readings
    names = ("label", "run", "reading", "gene_caller")
    assert [[e[name] for name in names] for e in content["evaluations"]] == [
        ["genes (genes)", "runs/genes-genes", "genes", "fast"],
        ["frames (300 nt)", "runs/frames-300", "frames", None],
    ]
    lines = list(summary_lines(content))
    assert [line.split(")")[1].split()[0] for line in lines[1:]] == [
        *("all",) * 2,
        *("shared",) * 2,
    ]


def test_contigs_are_measured_as_either_reading_calls_them(of_both_readings):
    out, content = of_both_readings
    unsure = 0
    for e in content["evaluations"]:
        rows = pd.read_csv(out / e["run"] / "contigs.tsv", sep="\t")
        is_virus = rows.index < 12
        scored = rows["score"].notna()
        found = e["contigs"]
        assert (found["n_virus"], found["n_others"]) == (
            (scored & is_virus).sum(),
            (scored & ~is_virus).sum(),
        )
        assert found["unscored_others"] == (~scored & ~is_virus).sum() > 0
        likely = rows["probability"].fillna(rows["score"])[scored]
        assert found["auroc"] == pytest.approx(roc_auc_score(is_virus[scored], likely), abs=1e-6)
        called = (rows["call"] == "virus")[scored]
        assert found["f1"] == pytest.approx(f1_score(is_virus[scored], called), abs=1e-6)
        assert found["unsure_others"] == ((rows["call"] == "unsure") & ~is_virus).sum()
        unsure += found["unsure_virus"] + found["unsure_others"]
        assert e["called_by"].startswith("probability >=")
    assert unsure > 0


def test_either_reading_is_compared_on_records_that_both_score(of_both_readings):
    out, content = of_both_readings
    runs = [out / e["run"] / "contigs.tsv" for e in content["evaluations"]]
    tables = [pd.read_csv(path, sep="\t") for path in runs]
    both = tables[0]["score"].notna() & tables[1]["score"].notna()
    is_virus = (tables[0].index < 12)[both]
    aurocs = [roc_auc_score(is_virus, t["probability"].fillna(t["score"])[both]) for t in tables]
    found = [e["shared_contigs"] for e in content["evaluations"]]
    assert [f["auroc"] for f in found] == pytest.approx(aurocs, abs=1e-6)
    change = found[1]["difference_to_first"]["auroc"]
    assert change == pytest.approx(aurocs[1] - aurocs[0], abs=1e-6)
    low, high = found[1]["difference_to_first"]["interval"]
    assert low <= change <= high
    assert found[0]["difference_to_first"] is None


@pytest.fixture
def undrawn(monkeypatch):
    """Plots take most of the time of a small evaluation."""
    monkeypatch.setattr("virnuc_dask.lab.quality.plots.draw", lambda content: ())


@pytest.mark.usefixtures("undrawn")
def test_force_starts_anew_but_leaves_what_is_not_its_own(files, frames_modelset, tmp_path):
    given = ([frames_modelset], [files["phage"]], [files["bacteria"]], tmp_path / "out", SETTINGS)
    evaluate(*given, lengths=(300, 500))
    assert evaluate(*given, force=True)["evaluations"][0]["chunk_length"] == 500
    assert [path.name for path in (tmp_path / "out/runs").iterdir()] == ["frames-500"]
    mine = [tmp_path / "out" / name for name in ("runs/frames-500/my.npy", "plots/mine.png")]
    for path in mine:
        path.write_text("mine")
    evaluate(*given, force=True)
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    (tmp_path / "out/plots/roc.png").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"roc\.png: is not as the evaluation left"):
        evaluate(*given, force=True)
    (tmp_path / "out/plots/roc.png").unlink()
    (tmp_path / "out/thesis.txt").touch()
    with pytest.raises(OutputExistsError, match=r"thesis\.txt"):
        evaluate(*given, force=True)


@pytest.mark.usefixtures("undrawn")
def test_an_evaluation_is_whole_until_another_is_known(
    evaluated, files, frames_modelset, parity_dir
):
    out, _ = evaluated
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    protein = parity_dir.parent / "protein.fa"
    with pytest.raises(BadInputError):
        evaluate([frames_modelset], [files["phage"]], [protein], out, SETTINGS, force=True)
    with pytest.raises(PlanChangedError):
        evaluate(
            [frames_modelset], [files["phage"]], [files["shuffled"]], out, SETTINGS, resume=True
        )
    results = out / "runs/frames-500/virus.fasta"
    with pytest.raises(OutputExistsError, match="would be lost"):
        evaluate([frames_modelset], [files["phage"]], [results], out, SETTINGS, force=True)
    log = out / "runs/frames-500/run.log.jsonl"
    assert {path: path.read_bytes() for path in before if path != log} == {
        path: content for path, content in before.items() if path != log
    }


def test_mistakes_are_refused_before_anything_is_computed(
    files, frames_modelset, genes_modelset, tmp_path
):
    out = tmp_path / "out"
    phage, bacteria = [files["phage"]], [files["bacteria"]]
    with pytest.raises(UsageError, match="nt, not 400"):
        evaluate([frames_modelset], phage, bacteria, out, SETTINGS, lengths=(500, 400))
    with pytest.raises(UsageError, match="--length is for sets that read frames"):
        evaluate([genes_modelset], phage, bacteria, out, SETTINGS, lengths=(500,))
    with pytest.raises(UsageError, match="several different ones"):
        evaluate([frames_modelset, frames_modelset], phage, bacteria, out, SETTINGS)
    with pytest.raises(UsageError, match="given twice"):
        evaluate([frames_modelset], phage, phage, out, SETTINGS)
    empty = tmp_path / "empty.fa"
    empty.touch()
    with pytest.raises(BadInputError, match="holds no records"):
        evaluate([frames_modelset], phage, [empty], out, SETTINGS)
    assert not out.exists()


@pytest.mark.usefixtures("undrawn")
def test_dna_in_both_classes_is_told(files, frames_modelset, tmp_path):
    first = next(read_records([files["phage"]]))
    other = write(tmp_path / "other.fa", [first.dna, first.dna[200:]])
    content = evaluate([frames_modelset], [files["phage"]], [other], tmp_path / "out", SETTINGS)
    assert "1 of the other records have the same DNA" in content["warnings"][0]
    assert "same DNA" in (tmp_path / "out/evaluation.html").read_text()
