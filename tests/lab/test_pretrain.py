"""A whole training on a toy: phages of some residues, prokaryotes of others."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.lab import out_of_fold, pretrain
from virnuc_dask.lab.recipe import (
    ClassifierSettings,
    ContigSettings,
    DataSettings,
    FitSettings,
    FragmentSettings,
    Recipe,
    RegionSettings,
    SplitSettings,
    WordSettings,
)
from virnuc_dask.lab.taught import Prepared
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import FRAMES, GENES, read_info, verify
from virnuc_dask.sequences.gene_columns import CALL
from virnuc_dask.sequences.records import read_records

CODONS = "GCT TGT GAT GAA TTT GGT CAT ATT AAA CTG ATG AAT CCT CAG CGT TCT ACT GTT TGG TAT"
CODON = dict(
    zip(
        "ACDEFGHIKLMNPQRSTVWY",
        CODONS.split(),
        strict=True,
    )
)
LETTERS = {"phage": "ACDEFGHIKLM", "prokaryote": "HIKLMNPQRSTVWY", "noise": "".join(CODON)}
GENES_OF_ONE, RESIDUES = 2, 60
INSERTIONS = 30


def toy(folder, rng, fragments=360):
    """Tables as `prepare` leaves them; a third of fragments is of each fold, and of the test."""
    kind = np.array(["phage", "prokaryote", "prokaryote", "phage", "prokaryote", "noise"])
    kind = np.tile(kind, fragments // 6)
    fold = np.resize(np.repeat([0, 1, -1], 6), fragments).astype(np.int8)
    peptides = [
        "".join(rng.choice(list(LETTERS[of]), RESIDUES)) for of in kind.repeat(GENES_OF_ONE)
    ]
    dna = ["".join(CODON[residue] for residue in peptide) for peptide in peptides]
    whole = ["".join(dna[i : i + GENES_OF_ONE]) for i in range(0, len(dna), GENES_OF_ONE)]
    length = [len(text) for text in whole]
    pq.write_table(
        pa.table(
            {
                "fragment": np.arange(fragments),
                "class": kind,
                "record": [f"{of} of {number}" for of, number in zip(kind, fold, strict=True)],
                "round": np.zeros(fragments, np.int8),
                "group": [f"g{number // 6}" for number in range(fragments)],
                "length_nt": length,
                "fold": fold,
                "doubtful": np.zeros(fragments, bool),
                "prophage": np.zeros(fragments, bool),
                "source": ["toy"] * fragments,
            }
        ),
        folder / "fragments.parquet",
    )
    calls = np.zeros(len(dna), CALL)
    calls["start"] = np.tile([0, RESIDUES * 3], fragments)
    calls["end"], calls["strand"] = calls["start"] + RESIDUES * 3, 1
    genes = {name: calls[name] for name in CALL.names}
    genes |= {"fragment": np.arange(fragments).repeat(GENES_OF_ONE)}
    genes |= {"doubtful": np.zeros(len(dna), bool)}
    texts = {"dna": pa.array(dna, pa.large_string()), "peptide": pa.array(peptides, "large_string")}
    pq.write_table(pa.table(genes | texts), folder / "genes.parquet")
    markers = {name: column[:20] for name, column in texts.items()}
    markers |= {"kind": ["virus"] * 4 + ["other"] * 16, "group": [f"m{i}" for i in range(20)]}
    markers["similar_to"] = pa.array([1, 32] * 10, pa.uint8())
    pq.write_table(pa.table(markers), folder / "markers.parquet")
    sequences = {"fragment": np.arange(fragments), "dna": pa.array(whole, pa.large_string())}
    pq.write_table(pa.table(sequences), folder / "sequences.parquet")
    return Prepared.of(folder, "toy")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    work = tmp_path_factory.mktemp("mini")
    fit = FitSettings(
        words=WordSettings(rounds=2, draws=500),
        classifier=ClassifierSettings(hidden=4, steps=40, batch=64),
        contigs=ContigSettings(seeds=1, trees=10, fewest_in_leaf=5),
        regions=RegionSettings(insertions=INSERTIONS),
    )
    return Recipe(
        data=DataSettings(table="t.tsv", phage=("p.fa",), prokaryote=("b.fa",)),
        out=str(work / "mini"),
        work=str(work),
        version="1",
        threads=1,
        fragments=FragmentSettings(models=(20, 45)),
        splits=SplitSettings(folds=2),
        fit=fit,
    )


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """The folder that a training leaves, and its work."""
    prepared = toy(tmp_path_factory.mktemp("toy"), np.random.default_rng(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "prepare", lambda recipe, work: prepared)
        patch.setattr(pretrain, "_PIECES", 600)
        out = pretrain.train(recipe)
        # A training that is done has nothing to learn again but the last model set.
        patch.setattr(out_of_fold, "_learn", None)
        patch.setattr(pretrain, "_measure", None)
        again = pretrain.train(replace(recipe, out=recipe.out + "-again"))
    return out, again


def test_it_is_a_model_set(trained, recipe):
    folder, _ = trained
    info = read_info(folder)
    verify(folder, info)
    assert info.reads_genes
    assert info.genes.models == (20, 45)
    assert all(0 < chance <= 1 for _, chance in info.contig_model.called)
    model = ContigModel.load(folder / "contig_model.safetensors")
    assert set(model.readers) == {GENES, FRAMES}
    assert model.regions.weight[0] > 0
    assert model.readers[GENES].columns == 1 + len(info.evidence)
    assert 45 not in model.viral_models.tolist()
    assert 56 in model.viral_models.tolist()


def test_it_was_measured_on_what_was_held_out(trained):
    folder, _ = trained
    (found,) = folder.parent.glob("words-*/measured-*/figures.json")
    figures = json.loads(found.read_text())
    by_length = figures["genes, new groups"]["by_length"]
    (measured,) = (of for length, of in by_length.items() if length == "300" and of)
    assert measured["phage against prokaryote"]["auroc"] > 0.9
    assert measured["phage against prokaryote"]["viruses"] == 40
    assert "frames, new groups" in figures
    card = (folder / "README.md").read_text()
    assert "phage against prokaryote | 300 | 40, 60" in card
    regions = figures["regions, new groups"]
    assert regions["all insertions"]["records"] == INSERTIONS
    assert regions["all insertions"]["found"] > 0.5
    assert regions["prokaryotes alone"]["megabases"] > 0.02
    assert f"all insertions | {INSERTIONS} | {regions['all insertions']['found']:.1%}" in card
    assert read_info(folder).quality["300"]["viruses"] == 40


def test_what_was_measured_is_a_model_set_too_and_another_one(trained):
    folder, _ = trained
    (measured,) = folder.parent.glob("words-*/measured-*")
    info = read_info(measured)
    assert info.encoders_checksum != read_info(folder).encoders_checksum


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
