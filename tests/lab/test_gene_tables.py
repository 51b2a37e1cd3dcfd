import gzip
import random
import sys

import numpy as np
import pytest

from virnuc_dask.lab import gene_tables
from virnuc_dask.lab.gene_tables import DRAWN, draw, fit, save
from virnuc_dask.sequences.fast_genes import GeneModels, call_genes
from virnuc_dask.sequences.genes import gene_caller
from virnuc_dask.sequences.records import read_records


@pytest.fixture(scope="module")
def learnt(data):
    """Models of the demo's own genes, but for lambda's."""
    dna = [record.dna for record in read_records([str(data / "demo.fasta.gz")])]
    genes = gene_caller("pyrodigal-gv", [20, 47, 49, 39, 57]).find(dna[1:])
    return dna[0], genes, fit(dna[1:], genes)


@pytest.fixture(scope="module")
def data(request):
    return request.config.rootpath / "tests" / "data"


def test_models_of_few_genes_find_those_of_lambda(learnt):
    dna, _, models = learnt
    (found,) = call_genes([dna], models)
    theirs = gene_caller("pyrodigal-gv", [20]).find([dna])
    ours = set(zip(found["start"].tolist(), found["end"].tolist(), strict=True))
    same = ours & set(zip(theirs.start.tolist(), theirs.end.tolist(), strict=True))
    assert len(same) > 0.6 * len(theirs)


def test_what_is_learnt_is_what_is_known_of_genes(learnt):
    _, _, models = learnt
    atg, gtg, ttg, *_ = models.start
    assert atg > max(gtg, ttg)
    # AGGAGG and what is next to it, some nt before a start.
    assert models.motif[0b00_10_10_00_10_10] > 1
    assert models.spacer.argmax() in (2, 3, 4, 5, 6)
    assert not models.upstream[:, 4].any()
    assert not models.pairs.reshape(-1, 65, 65)[:, 64].any()


def test_models_are_written_and_read_as_they_are(learnt, tmp_path):
    _, _, models = learnt
    save(models, tmp_path / "models.npz")
    with np.load(tmp_path / "models.npz") as held:
        again = GeneModels(**held)
    shipped = GeneModels.load()
    for name in GeneModels.__slots__:
        assert np.array_equal(getattr(again, name), getattr(models, name)), name
        assert getattr(again, name).shape == getattr(shipped, name).shape
        assert getattr(again, name).dtype == getattr(shipped, name).dtype


def test_the_program_draws_fits_and_writes(tmp_path, monkeypatch, data):
    dna = [record.dna for record in read_records([str(data / "demo.fasta.gz")])]
    rng = random.Random(0)
    for kind in DRAWN:
        entries = [f">{kind}{number}\n{rng.choice(dna)[:20_000]}\n" for number in range(8)]
        with gzip.open(tmp_path / f"{kind}.fa.gz", "wt") as stream:
            stream.writelines(entries)
    drawn = draw(tmp_path, scale=0.002)
    assert drawn == draw(tmp_path, scale=0.002)
    assert drawn != draw(tmp_path, scale=0.002, seed=6)
    command = ["gene_tables", str(tmp_path), str(tmp_path / "out.npz"), "--scale", "0.01"]
    monkeypatch.setattr(sys, "argv", command)
    gene_tables.main()
    with np.load(tmp_path / "out.npz") as held:
        assert GeneModels(**held).pairs.any()
