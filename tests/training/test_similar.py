import random

from virnuc_dask.training.similar import K, KmerSet

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def random_dna(length, seed):
    return "".join(random.Random(seed).choices("ACGT", k=length))


def kmers(dna):
    return {dna[at : at + K] for at in range(len(dna) - K + 1)}


def test_packs_every_31_mer_of_both_strands():
    dna = random_dna(200, seed=1)
    both = kmers(dna) | kmers(dna[::-1].translate(COMPLEMENT))
    packed = {sum("ACGT".index(b) << 2 * (K - 1 - i) for i, b in enumerate(k)) for k in both}
    assert set(KmerSet.of([dna]).kmers.tolist()) == packed


def test_finds_what_shares_a_31_mer_on_either_strand():
    given = random_dna(500, seed=1)
    other = random_dna(300, seed=2)
    shared = given[100:131]
    sequences = [
        other,
        other + shared + other,
        other + shared.translate(COMPLEMENT)[::-1],
        other + "N" + shared[:30] + "N" + other,
        shared.lower(),
        "",
        shared[:30],
        shared,
    ]
    found = KmerSet.of([given]).shared_with(sequences).tolist()
    assert found == [False, True, True, False, True, False, False, True]


def test_a_31_mer_never_spans_two_sequences():
    given = random_dna(60, seed=3)
    kmer_set = KmerSet.of([given])
    assert not kmer_set.shared_with([given[:30], given[30:60]]).any()
    assert not KmerSet.of([given[:20], given[20:40]]).shared_with([given]).any()


def test_an_empty_set_shares_nothing():
    assert not KmerSet().shared_with([random_dna(100, seed=1)]).any()
    assert not KmerSet.of([]).shared_with(["ACGT"]).any()
