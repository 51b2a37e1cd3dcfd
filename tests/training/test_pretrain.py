import argparse
import json
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.registry import read_info, verify, write_info
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.training.evaluate import Scorer
from virnuc_dask.training.export import describe, write_weights
from virnuc_dask.training.genes import TEST, TRAIN, VALIDATION, Exclusions, read_genes
from virnuc_dask.training.network import chunk_scores
from virnuc_dask.training.pretrain import Recipe, main, pretrain, train
from virnuc_dask.training.windows import WindowSource, pack

TINY = Recipe(
    width=8,
    hidden=16,
    learning_rate=0.02,
    table_learning_rate=0.1,
    averaging=0.8,
    rounds=6,
    windows=1_000,
    batch=64,
    rounds_between_checks=2,
)
FILES = ("nucleotide.safetensors", "peptide.safetensors", "classifier.safetensors")
CODONS = ["".join(letters) for letters in product("ACGT", repeat=3)]


def random_gene(rng, favourite):
    """An open reading frame that prefers codons with the letter ``favourite``."""
    codons = [codon for codon in CODONS if codon not in ("TAA", "TAG", "TGA")]
    weights = [1 + codon.count(favourite) for codon in codons]
    return "".join(rng.choices(codons, weights, k=rng.randrange(180, 260)))


@pytest.fixture(scope="module")
def markers(tmp_path_factory) -> Path:
    rng = random.Random(0)
    of_each = [(block, number) for block in range(40) for number in range(6)]
    genes = [(f"GeneID:{50 * b + n}", random_gene(rng, "A")) for b, n in of_each]
    genes += [(f"gi|{50 * b}|ref|NZ_{b}.1|:{n}-9", random_gene(rng, "C")) for b, n in of_each]
    genes += [(f"gi|{50 * i}|ref|XM_1.1|", random_gene(rng, "C")) for i in range(200, 230)]
    path = tmp_path_factory.mktemp("markers") / "markers.fasta"
    path.write_text("".join(f">{name}\n{dna}\n" for name, dna in genes), encoding="ascii")
    return path


@pytest.fixture(scope="module")
def genes(markers):
    gene_set = read_genes(markers, Exclusions())
    return {part: gene_set.part(part) for part in (TRAIN, VALIDATION, TEST)}


def run(markers, out, exclude_names=None, genomes=()):
    options = argparse.Namespace(
        markers=markers, exclude_names=exclude_names, exclude_similar=[], out=out, genomes=genomes
    )
    return pretrain(options, TINY)


@pytest.fixture(scope="module")
def trained(markers, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    rng = random.Random(1)
    contigs = [
        (favourite, "".join(random_gene(rng, favourite) for _ in range(12))) for favourite in "AC"
    ]
    genome = out / "genome.fasta"
    genome.write_text("".join(f">{n}\n{dna}\n" for n, dna in [*contigs, ("short", "ACGT" * 90)]))
    return out, run(markers, out, genomes=[genome, markers])


def test_learns_an_obvious_difference(trained):
    _, report = trained
    for length in ("500", "300"):
        assert report["by_chunk_length"][length]["chunks"]["auroc"] > 0.9
        assert report["by_chunk_length"][length]["genes"]["auroc"] > 0.9


def test_calls_whole_contigs(trained):
    _, report = trained
    for length in ("500", "300"):
        genomes = report["by_chunk_length"][length]["genomes"]
        assert genomes["markers.fasta"] == {"contigs": 0}
        assert (genomes["genome.fasta"]["contigs"], genomes["genome.fasta"]["called_virus"]) == (
            2,
            1,
        )


def test_calibrates_contig_calls_on_validation_genes(trained):
    out, report = trained
    calibration = Calibration.of(read_info(out).calibration)
    assert calibration.contig_threshold == report["contig_threshold"]
    assert calibration.method.endswith("validation pseudo-contigs")
    for part in (report["validation"], report["by_chunk_length"]):
        for figures in part.values():
            assert figures["contigs"]["balanced_error"] < 0.1
            assert figures["contigs"]["auroc"] > 0.9


def test_writes_a_model_set_that_verifies_and_scores(trained, genes):
    out, report = trained
    info = read_info(out)
    verify(out, info)
    assert info.chunk_lengths == (500, 300)
    assert info.quality["500"]["auroc"] == report["by_chunk_length"]["500"]["chunks"]["auroc"]
    assert report["data"]["sha256"] in info.training_data
    scores = Scorer.load(out, info).score([gene.dna[:500] for gene in genes[TEST]] + ["TAA" * 9])
    assert np.isfinite(scores[:-1]).all()


def test_the_written_model_set_scores_as_the_trained_network(genes, tmp_path):
    network, _ = train(genes, TINY)
    write_weights(network, tmp_path)
    info = write_info(tmp_path, describe(TINY.width, TINY.hidden, "toy"))
    chunks = [gene.dna[:300] for gene in genes[TEST]]
    samples, kept = pack(chunks, np.zeros(len(chunks), np.int64))
    with torch.inference_mode():
        expected = chunk_scores(torch.softmax(network(samples), 1)[:, 1], samples).numpy()
    np.testing.assert_allclose(Scorer.load(tmp_path, info).score(chunks)[kept], expected, atol=0.01)


def test_the_same_seed_gives_the_same_weights(markers, trained, tmp_path):
    run(markers, tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes()


def test_another_seed_gives_other_weights(genes):
    first, _ = train(genes, Recipe(**{**vars(TINY), "rounds": 1, "seed": 2}))
    second, _ = train(genes, Recipe(**{**vars(TINY), "rounds": 1, "seed": 3}))
    assert not torch.equal(first.tables["codons"], second.tables["codons"])


def test_excluded_genes_do_not_change_the_weights(markers, trained, tmp_path):
    more = tmp_path / "more.fasta"
    extra = [f">GeneID:{50 * i}\n{random_gene(random.Random(i), 'T')}\n" for i in range(300, 400)]
    more.write_text(markers.read_text(encoding="ascii") + "".join(extra), encoding="ascii")
    names = tmp_path / "names.txt"
    names.write_text("".join(f"GeneID:{50 * i}\n" for i in range(300, 400)), encoding="ascii")
    report = run(more, tmp_path / "out", exclude_names=names)
    assert report["data"]["left_out"]["excluded by name"] == 100
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (trained[0] / name).read_bytes()


def test_validation_and_test_genes_are_not_drawn(genes, monkeypatch):
    drawn = []

    class Watched(WindowSource):
        def __init__(self, given):
            drawn.extend(given)
            super().__init__(given)

    monkeypatch.setattr("virnuc_dask.training.pretrain.WindowSource", Watched)
    train(genes, Recipe(**{**vars(TINY), "rounds": 1, "windows": 100}))
    assert {gene.part for gene in drawn} == {TRAIN}


def test_both_error_rates_are_equal_on_the_validation_chunks(genes):
    network, _ = train(genes, Recipe(**{**vars(TINY), "rounds": 1}))
    chunks = [(g.dna[at : at + 300], g.is_virus) for g in genes[VALIDATION] for at in (0, 150, 240)]
    samples, _ = pack([dna for dna, _ in chunks], np.array([label for _, label in chunks], int))
    with torch.inference_mode():
        scores = chunk_scores(torch.softmax(network(samples), 1)[:, 1], samples)
    called, is_virus = scores >= 0.5, samples.labels == 1
    missed, false = (~called[is_virus]).float().mean(), called[~is_virus].float().mean()
    assert abs(missed - false) < 0.2


def test_windows_are_balanced_and_come_from_the_genes(genes):
    source = WindowSource(genes[TRAIN])
    samples = source.draw(2_000, np.random.default_rng(0))
    assert samples.labels.double().mean() == pytest.approx(0.5, abs=0.05)
    again = source.draw(2_000, np.random.default_rng(0))
    assert torch.equal(samples.bags["six_mers"].ids, again.bags["six_mers"].ids)


def test_packed_samples_keep_frames_and_labels_together():
    chunks = ["ATGGCC" * 60, "TAATTAATTAA" * 9, "ACG" * 40]
    samples, kept = pack(chunks, np.array([1, 1, 0]))
    frames = [len(of_chunk) for of_chunk in find_frames(chunks)]
    assert frames[1] == 0
    assert kept.tolist() == [0, 2]
    assert samples.labels.tolist() == [1, 0]
    assert torch.diff(samples.frame_ends).tolist() == [frames[0], frames[2]]
    second = samples.part(1, 2)
    assert second.labels.tolist() == [0]
    assert len(second.bags["codons"]) == frames[2]


def test_the_command_writes_its_report(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    monkeypatch.setattr(
        "virnuc_dask.training.pretrain.pretrain",
        lambda options, recipe: {"markers": str(options.markers), "seed": recipe.seed},
    )
    report = tmp_path / "results" / "quality.json"
    main(["--markers", "m.fasta", "--out", "set", "--report", str(report), "--seed", "7"])
    assert json.loads(report.read_text(encoding="utf-8")) == {"markers": "m.fasta", "seed": 7}
    assert json.loads(capsys.readouterr().out) == {"markers": "m.fasta", "seed": 7}
    assert asked == [2]
