"""A whole training on a toy: phages of some residues, prokaryotes of others."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.config import settings_of
from virnuc_dask.lab import out_of_fold, pretrain
from virnuc_dask.lab.markers import TEST_BIT
from virnuc_dask.lab.recipe import Recipe
from virnuc_dask.lab.taught import Prepared
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import FRAMES, GENES, read_info, verify
from virnuc_dask.sequences.gene_columns import CALL
from virnuc_dask.sequences.records import read_records

CODONS = "GCT TGT GAT GAA TTT GGT CAT ATT AAA CTG ATG AAT CCT CAG CGT TCT ACT GTT TGG TAT"
CODON = dict(zip("ACDEFGHIKLMNPQRSTVWY", CODONS.split(), strict=True))
LETTERS = {"phage": "ACDEFGHIKLM", "prokaryote": "HIKLMNPQRSTVWY", "noise": "".join(CODON)}
FRAGMENTS, GENE_NT = 360, 180
INSERTIONS = 30


def toy(folder):
    """Tables as `prepare` leaves them; a third of fragments is of each fold, and of the test."""
    rng, prepared = np.random.default_rng(2), Prepared.of(folder, "toy")
    kind = ["phage", "prokaryote", "prokaryote", "phage", "prokaryote", "noise"]
    kind = np.tile(kind, FRAGMENTS // 6)
    fold = np.resize(np.repeat([0, 1, -1], 6), FRAGMENTS).astype(np.int8)
    fragment, number = np.arange(FRAGMENTS).repeat(2), np.arange(FRAGMENTS)
    peptide = ["".join(rng.choice(list(LETTERS[of]), GENE_NT // 3)) for of in kind[fragment]]
    dna = ["".join(CODON[residue] for residue in text) for text in peptide]
    texts = {"dna": pa.array(dna, "large_string"), "peptide": pa.array(peptide, "large_string")}
    fragments = {
        "class": kind,
        "record": [f"{of} of {number}" for of, number in zip(kind, fold, strict=True)],
        "round": np.zeros(FRAGMENTS, np.int8),
        "group": [f"g{number // 6}" for number in range(FRAGMENTS)],
        "length_nt": np.full(FRAGMENTS, 2 * GENE_NT),
        "fold": fold,
        "doubtful": np.zeros(FRAGMENTS, bool),
        "prophage": np.zeros(FRAGMENTS, bool),
    }
    calls = np.zeros(len(dna), CALL)
    calls["start"], calls["strand"] = np.tile([0, GENE_NT], FRAGMENTS), 1
    calls["end"] = calls["start"] + GENE_NT
    genes = {"fragment": fragment, "doubtful": np.zeros(len(dna), bool)}
    genes |= {name: calls[name] for name in CALL.names}
    markers = {
        "kind": ["virus"] * 4 + ["other"] * 16,
        "group": [f"m{number}" for number in range(20)],
        "similar_to": [1, 1 << TEST_BIT] * 10,
    }
    whole = pa.array(map("".join, zip(dna[::2], dna[1::2], strict=True)), "large_string")
    pq.write_table(pa.table(fragments), prepared.fragments)
    pq.write_table(pa.table(genes | texts), prepared.genes)
    first = {name: column[:20] for name, column in texts.items()}
    pq.write_table(pa.table(first | markers), prepared.markers)
    pq.write_table(pa.table({"fragment": number, "dna": whole}), prepared.sequences)
    return prepared


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    work = tmp_path_factory.mktemp("mini")
    values = {
        "data": {"table": "t.tsv", "phage": ["p.fa"], "prokaryote": ["b.fa"]},
        "out": str(work / "mini"),
        "work": str(work),
        "threads": 1,
        "fragments": {"models": [20, 45]},
        "splits": {"folds": 2},
        "fit": {
            "words": {"rounds": 2, "draws": 500},
            "classifier": {"hidden": 4, "steps": 40, "batch": 64},
            "contigs": {"seeds": 1, "trees": 10, "fewest_in_leaf": 5},
            "regions": {"insertions": INSERTIONS},
        },
    }
    return settings_of(Recipe, values, "pretrain")


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """The folder that a training leaves, and its work."""
    prepared = toy(tmp_path_factory.mktemp("toy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "prepare", lambda recipe, work: prepared)
        patch.setattr(pretrain, "_PIECES", 600)
        out = pretrain.train(recipe)
        # A training that is done has nothing to learn again but the last model set.
        patch.setattr(out_of_fold, "_learn", None)
        patch.setattr(pretrain, "_measure", None)
        again = pretrain.train(replace(recipe, out=recipe.out + "-again"))
    return out, again


def test_it_is_a_model_set(trained):
    folder, _ = trained
    info = read_info(folder)
    verify(folder, info)
    assert info.reads_genes
    assert info.genes.models == (20, 45)
    assert all(0 < chance <= 1 for _, chance in info.contig_model.called)
    model = ContigModel.load(folder / "contig_model.safetensors")
    assert set(model.readers) == {GENES, FRAMES}
    assert model.regions.weight[0] > 0
    assert (model.regions.false_rates[1] > 0).all()
    assert model.regions.false_rates.size
    assert model.readers[GENES].columns == 1 + len(info.evidence)
    assert 45 not in model.viral_models.tolist()
    assert 56 in model.viral_models.tolist()


def test_it_was_measured_on_what_was_held_out_by_another_model_set(trained):
    folder, _ = trained
    (measured,) = folder.parent.glob("words-*/measured-*")
    assert read_info(measured).encoders_checksum != read_info(folder).encoders_checksum
    figures = json.loads((measured / "figures.json").read_text())
    by_length = figures["genes, new groups"]["by_length"]
    found = by_length["300"]["phage against prokaryote"]
    assert found["auroc"] > 0.9
    assert found["viruses"] == read_info(folder).quality["300"]["viruses"] == 40
    assert "frames, new groups" in figures
    regions = figures["regions, new groups"]
    assert regions["all insertions"]["records"] == INSERTIONS
    assert regions["all insertions"]["found"] > 0.5
    assert regions["prokaryotes alone"]["megabases"] > 0.02
    sure = regions["q_values"]["0.1"]["0.1"]
    assert set(sure) == {"regions", "false", "recall"}
    card = (folder / "README.md").read_text()
    told = f"{sure['regions']:.1f} | {sure['false']:.1%} | {sure['recall']:.1%}"
    assert f"| 10% | 0.1 | {told} |" in card
    assert "phage against prokaryote | 300 | 40, 60" in card
    assert f"all insertions | {INSERTIONS} | {regions['all insertions']['found']:.1%}" in card


def test_a_training_that_was_stopped_goes_on_and_ends_the_same(trained):
    folder, again = trained
    assert read_info(folder).files == read_info(again).files


def test_the_command_reads_records_with_it(trained, tmp_path, command, request):
    demo = request.config.rootpath / "tests" / "data" / "demo.fasta.gz"
    first = next(iter(read_records([str(demo)])))
    fasta = tmp_path / "one.fasta"
    fasta.write_text(f">one\n{first.dna[:6000]}\n>short\n{'GCTGAA' * 30}\n")
    out = tmp_path / "out"
    code, _, err = command(
        "run", fasta, "-o", out, "--model", trained[0], "--cluster", "none", "--quiet"
    )
    assert code == 0, err
    rows = [line.split("\t") for line in (out / "contigs.tsv").read_text().splitlines()]
    calls = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    assert calls["one"]["reading"] == "genes"
    assert calls["short"]["reading"] == "frames"
