import numpy as np

from virnuc_dask.lab.fragments import cut
from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import FragmentSettings

SETTINGS = FragmentSettings(longest_nt=3_000)


def genomes(kind, count=30, length=9_000):
    return [Genome(f"{kind}{n}", kind, "g", "somewhere", 0, "A" * length) for n in range(count)]


def test_fragments_of_a_round_tile_a_record_and_lengths_are_even_in_logarithms():
    cuts = cut(genomes("phage"), SETTINGS, seed=1)
    lengths = cuts.end - cuts.start
    assert 300 <= lengths.min() < lengths.max() <= 3_000
    assert 800 < np.median(lengths) < 1_100  # the root of 300 x 3,000 is 949
    for number in range(4):
        rows = np.flatnonzero((cuts.genome == 3) & (cuts.round == number))
        assert (cuts.start[rows[1:]] == cuts.end[rows[:-1]]).all()


def test_cuts_depend_on_the_record_and_the_seed_not_on_its_neighbours():
    all_of = genomes("phage")
    cuts, one = cut(all_of, SETTINGS, seed=1), cut(all_of[3:4], SETTINGS, seed=1)
    assert cuts.start[cuts.genome == 3].tolist() == one.start.tolist()
    assert cut(all_of[3:4], SETTINGS, seed=2).end.tolist() != one.end.tolist()
