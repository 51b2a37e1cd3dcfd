import gzip
import random
import sys

import numpy as np
import pytest

from virnuc_dask.lab import gene_tables
from virnuc_dask.lab.gene_tables import DRAWN, draw, fit
from virnuc_dask.sequences.fast_genes import GeneModels, call_genes
from virnuc_dask.sequences.genes import gene_caller
from virnuc_dask.sequences.records import read_records


@pytest.fixture(scope="module")
def demo(request):
    path = request.config.rootpath / "tests" / "data" / "demo.fasta.gz"
    return [record.dna for record in read_records([str(path)])]


@pytest.fixture(scope="module")
def learnt(demo):
    """Models of the demo's own genes, but for lambda's."""
    genes = gene_caller("pyrodigal-gv", [20, 47, 49, 39, 57]).find(demo[1:])
    return fit(demo[1:], genes)


def test_models_of_few_genes_find_those_of_lambda(demo, learnt):
    (found,) = call_genes(demo[:1], learnt)
    theirs = gene_caller("pyrodigal-gv", [20]).find(demo[:1])
    ours = set(zip(found["start"].tolist(), found["end"].tolist(), strict=True))
    same = ours & set(zip(theirs.start.tolist(), theirs.end.tolist(), strict=True))
    assert len(same) > 0.6 * len(theirs)


def test_what_is_learnt_is_what_is_known_of_genes(learnt):
    atg, gtg, ttg, *_ = learnt.start
    assert atg > max(gtg, ttg)
    # AGGAGG and what is next to it, some nt before a start.
    assert learnt.motif[0b00_10_10_00_10_10] > 1
    assert learnt.spacer.argmax() in (2, 3, 4, 5, 6)
    assert not learnt.upstream[:, 4].any()
    assert not learnt.pairs.reshape(-1, 65, 65)[:, 64].any()


def test_the_program_draws_fits_and_writes(tmp_path, monkeypatch, demo):
    rng = random.Random(0)
    for kind in DRAWN:
        entries = [f">{kind}{number}\n{rng.choice(demo)[:20_000]}\n" for number in range(8)]
        with gzip.open(tmp_path / f"{kind}.fa.gz", "wt") as stream:
            stream.writelines(entries)
    drawn = draw(tmp_path, scale=0.002)
    assert drawn == draw(tmp_path, scale=0.002) != draw(tmp_path, scale=0.002, seed=6)
    out, shipped = tmp_path / "out.npz", GeneModels.load()
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), str(out), "--scale", "0.01"])
    gene_tables.main()
    with np.load(out) as held:
        made = GeneModels(**held)
    for name in GeneModels.__slots__:
        ours, theirs = getattr(made, name), getattr(shipped, name)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert ours.any()
