import numpy as np

from virnuc_dask.lab.fragments import GENES, batches, cut, gene_table, sequence_table
from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import FragmentSettings
from virnuc_dask.sequences.genes import gene_caller
from virnuc_dask.sequences.records import read_records

SETTINGS = FragmentSettings(longest_nt=3_000)


def random_dna(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def genomes(kind, count=30, length=9_000):
    return [
        Genome(f"{kind}{n}", kind, "g", "somewhere", 0, random_dna(length, n)) for n in range(count)
    ]


def covered(kind, coverage):
    of = genomes(kind)
    settings = FragmentSettings(longest_nt=3_000, coverage={kind: coverage})
    cuts = cut(of, settings, seed=1)
    return (cuts.end - cuts.start).sum() / sum(len(genome.dna) for genome in of)


def test_coverage_is_what_was_asked():
    assert 3.5 < covered("phage", 4.0) <= 4.0  # what is left at an end is too short at times
    assert 1.1 < covered("plasmid", 1.5) < 1.7
    assert 0.2 < covered("eukaryote", 0.4) < 0.6


def test_fragments_of_a_round_tile_a_record_and_lengths_are_even_in_logarithms():
    cuts = cut(genomes("phage"), SETTINGS, seed=1)
    lengths = cuts.end - cuts.start
    assert lengths.min() >= 300
    assert lengths.max() <= 3_000
    assert 800 < np.median(lengths) < 1_100  # the root of 300 x 3,000 is 949
    for number in range(4):
        rows = np.flatnonzero((cuts.genome == 3) & (cuts.round == number))
        assert (cuts.start[rows[1:]] == cuts.end[rows[:-1]]).all()


def test_cuts_depend_on_the_record_and_the_seed_not_on_its_neighbours():
    all_of = genomes("phage")
    cuts, one = cut(all_of, SETTINGS, seed=1), cut(all_of[3:4], SETTINGS, seed=1)
    rows = cuts.genome == 3
    assert cuts.start[rows].tolist() == one.start.tolist()
    assert cut(all_of[3:4], SETTINGS, seed=2).end.tolist() != one.end.tolist()


def test_batches_hold_every_fragment_once():
    cuts = cut(genomes("phage"), SETTINGS, seed=1)
    spans = list(batches(cuts.end - cuts.start, 50_000))
    assert [first for first, _ in spans] == [0, *(last for _, last in spans[:-1])]
    assert spans[-1][1] == len(cuts)
    nt = [int((cuts.end - cuts.start)[first:last].sum()) for first, last in spans]
    assert all(50_000 <= held < 53_000 for held in nt[:-1])


def test_genes_are_numbered_by_fragment_and_lie_where_their_dna_is(request):
    demo = request.config.rootpath / "tests" / "data" / "demo.fasta.gz"
    dna = next(read_records([str(demo)])).dna
    of = [Genome("lambda", "phage", "g", "somewhere", 0, dna)]
    cuts = cut(of, SETTINGS, seed=1)
    dna = cuts.dna(of, 2, 9)
    assert sequence_table(dna, 2)["fragment"].to_pylist() == list(range(2, 9))
    table = gene_table(dna, 2, gene_caller("fast"), threads=1)
    assert table.schema == GENES
    rows = table.to_pylist()
    places = [(row["fragment"], row["start"]) for row in rows]
    assert places == sorted(places)
    ahead = [row for row in rows if row["strand"] > 0]
    assert ahead
    for row in ahead:
        assert dna[row["fragment"] - 2][row["start"] : row["end"]] == row["dna"]
