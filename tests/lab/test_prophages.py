import shutil

import numpy as np
import pytest

from virnuc_dask.errors import UsageError
from virnuc_dask.lab.prophages import doubts, hits, stretches
from virnuc_dask.lab.recipe import ProphageSettings

SETTINGS = ProphageSettings()


def random_peptides(count, seed, length=120):
    rng = np.random.default_rng(seed)
    return ["M" + "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length)) for _ in range(count)]


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="needs MMseqs2")
def test_genes_that_resemble_a_phages_are_found():
    phage, others = random_peptides(4, 1), random_peptides(5, 2)
    changed = phage[2][:60] + "GG" + phage[2][62:]
    genes = [(number, peptide) for number, peptide in enumerate([*others, changed, phage[0][:30]])]
    assert hits(genes, list(enumerate(phage)), SETTINGS, threads=1).tolist() == [5]
    assert hits([], list(enumerate(phage)), SETTINGS, threads=1).tolist() == []


def test_without_mmseqs_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="mmseqs2"):
        hits([(0, "M" * 50)], [(0, "M" * 50)], SETTINGS, threads=1)


def test_neighbours_of_many_hits_are_doubtful_and_of_more_prophages():
    record = np.repeat([0, 1], 40)
    place = np.tile(np.arange(40) * 1_000, 2)
    hit = np.zeros(80, np.bool_)
    hit[[10, 12, 14]] = True
    hit[[60, 61, 62, 63, 64]] = True
    found = doubts(record, place, hit, SETTINGS)
    assert np.flatnonzero(found.doubtful[:40]).tolist() == list(range(8, 17))
    assert np.flatnonzero(found.prophage).tolist() == list(range(58, 67))


def test_a_window_ends_with_its_record_and_the_order_given_does_not_matter():
    record = np.repeat([0, 1], 6)
    place = np.tile(np.arange(6), 2)
    hit = np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0], np.bool_)
    assert not doubts(record, place, hit, SETTINGS).doubtful.any()
    hit[3] = True
    order = np.random.default_rng(1).permutation(12)
    there = doubts(record, place, hit, SETTINGS).doubtful
    mixed = doubts(record[order], place[order], hit[order], SETTINGS).doubtful
    assert there.tolist() == [True] * 6 + [False] * 6
    assert mixed.tolist() == there[order].tolist()


def test_stretches_are_runs_of_flagged_genes():
    record = np.array([0, 0, 0, 0, 1, 1])
    start = np.array([0, 100, 200, 300, 0, 100])
    end = start + np.array([150, 90, 90, 90, 90, 90])
    flagged = np.array([1, 1, 0, 1, 1, 0], np.bool_)
    assert stretches(record, start, end, flagged).tolist() == [
        [0, 0, 190],
        [0, 300, 390],
        [1, 0, 90],
    ]
    assert stretches(record, start, end, ~flagged | True).tolist() == [[0, 0, 390], [1, 0, 190]]
    assert stretches(record[:0], start[:0], end[:0], flagged[:0]).tolist() == []
