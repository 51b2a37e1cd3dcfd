import shutil

import numpy as np
import pytest

from virnuc_dask.errors import UsageError
from virnuc_dask.lab.prophages import doubts, hits
from virnuc_dask.lab.recipe import ProphageSettings

SETTINGS = ProphageSettings()


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="needs MMseqs2")
def test_genes_that_resemble_a_phages_are_found():
    letters = np.random.default_rng(1).choice(list("ACDEFGHIKLMNPQRSTVWY"), (9, 120))
    peptides = ["M" + "".join(row) for row in letters]
    phage, others = peptides[:4], peptides[4:]
    changed = phage[2][:60] + "GG" + phage[2][62:]
    genes = list(enumerate([*others, changed, phage[0][:30]]))
    assert hits(genes, list(enumerate(phage)), SETTINGS, threads=1).tolist() == [5]
    assert hits([], list(enumerate(phage)), SETTINGS, threads=1).tolist() == []


def test_without_mmseqs_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="mmseqs2"):
        hits([(0, "M" * 50)], [(0, "M" * 50)], SETTINGS, threads=1)


@pytest.mark.parametrize(
    ("hit", "doubtful", "prophage"),
    [
        ([10, 12, 14], range(8, 17), []),
        ([20, 21, 22, 23, 24], range(16, 29), range(18, 27)),
        ([38, 39, 40, 41], [], []),  # a window ends with its record
        ([37, 38, 39, 40, 41], range(33, 40), []),
    ],
)
def test_neighbours_of_many_hits_are_doubtful_and_of_more_prophages(hit, doubtful, prophage):
    record, place = np.repeat([0, 1], 40), np.tile(np.arange(40) * 1_000, 2)
    is_hit = np.isin(np.arange(80), hit)
    order = np.random.default_rng(1).permutation(80)
    found = doubts(record[order], place[order], is_hit[order], SETTINGS)
    for flags, wanted in zip(found, (doubtful, prophage), strict=True):
        assert np.sort(order[flags]).tolist() == list(wanted)
