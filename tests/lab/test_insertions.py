import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.lab.insertions import draw
from virnuc_dask.lab.taught import Fragments

GENES_OF_ONE, FRAGMENT_NT, OF_ONE = 6, 3_000, 6
EVERY = np.ones(14 * OF_ONE, bool)


@pytest.fixture(scope="module")
def fragments():
    """Of two folds: five phages of 18 kb, three of them of one group, and two prokaryotes."""
    genome = np.repeat(np.arange(14), OF_ONE)
    kind = np.where(genome % 7 < 5, "phage", "prokaryote")
    many = len(genome)
    return Fragments(
        kind=kind,
        group=np.where(genome % 7 < 3, genome - genome % 7, genome),
        genome=genome,
        length_nt=np.full(many, float(FRAGMENT_NT)),
        fold=np.where(genome < 7, 0, -1).astype(np.int8),
        is_doubtful=(kind == "prokaryote") & (np.arange(many) % OF_ONE == OF_ONE - 1),
        is_prophage=np.zeros(many, bool),
    )


@pytest.fixture
def genes(fragments):
    """Genes of 450 nt, 50 nt apart."""
    fragment = np.repeat(np.arange(len(fragments.kind)), GENES_OF_ONE)
    start = np.tile(np.arange(GENES_OF_ONE) * 500, len(fragments.kind))
    columns = {"fragment": fragment, "start": start, "end": start + 450}
    columns["strand"] = np.where(fragment % 3, 1, -1).astype(np.int8)
    columns |= dict.fromkeys(("partial_left", "partial_right"), np.zeros(len(fragment), bool))
    return pa.table(columns)


def each(records):
    return np.split(records, np.flatnonzero(np.diff(records["record"])) + 1)


def test_a_stretch_of_a_phage_is_between_genes_of_one_prokaryote_of_its_fold(fragments, genes):
    drawn = each(draw(fragments, genes, EVERY, 40, seed=1).insertions)
    assert [one["record"][0] for one in drawn] == list(range(80))
    for one in drawn:
        fragment, is_viral = genes["fragment"].to_numpy()[one["gene"]], one["is_viral"]
        assert len(set(fragments.fold[fragment])) == 1
        viral = np.flatnonzero(is_viral)
        assert 0 < viral[0] <= viral[-1] == viral[0] + len(viral) - 1 < len(one) - 1
        for inside in (is_viral, ~is_viral):
            assert len(set(fragments.genome[fragment[inside]])) == 1
            assert (np.diff(one["gene"][inside]) == 1).all()
        assert (fragments.kind[fragment] == np.where(is_viral, "phage", "prokaryote")).all()
        assert not fragments.is_doubtful[fragment].any()
        # Genes keep lengths, distances and strands.
        assert one["start"][0] == 0
        assert (one["end"] - one["start"] == 450).all()
        assert set(np.diff(one["start"])[np.diff(is_viral) == 0]) == {500}
        assert (one["start"][1:] >= one["end"][:-1]).all()
        assert (one["strand"] == genes["strand"].to_numpy()[one["gene"]]).all()
        assert 4_000 < np.ptp(one[["start", "end"]][is_viral].tolist()) <= 18_000


def test_a_gene_that_two_fragments_share_is_one(fragments, genes):
    """It is as long as both parts; the longer one stands for it."""
    column = {name: genes[name].to_numpy().copy() for name in genes.column_names}
    column["strand"][:] = 1
    column["end"][GENES_OF_ONE - 1 :: GENES_OF_ONE] = FRAGMENT_NT
    column["partial_right"][GENES_OF_ONE - 1 :: GENES_OF_ONE] = True
    column["partial_left"][::GENES_OF_ONE] = True
    host = each(draw(fragments, pa.table(column), fragments.fold == 0, 1, seed=1).hosts)[0]
    assert len(host) == (OF_ONE - 1) * (GENES_OF_ONE - 1) + 1
    assert host["gene"].tolist() == [
        g for g in range(host["gene"][0], host["gene"][0] + 30) if g % 6 or g == host["gene"][0]
    ]
    assert host["end"][5] - host["start"][5] == 500 + 450
    assert host["start"][6] == 3_500
