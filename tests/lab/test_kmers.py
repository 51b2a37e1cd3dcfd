import numpy as np

from virnuc_dask.lab.kmers import KmerIndex, sampled

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def random_dna(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def test_a_share_of_the_kmers_is_drawn_alike_on_both_strands():
    dna = random_dna(3_000, 3)
    back = dna[::-1].translate(COMPLEMENT)
    assert sampled(back, 21, 20).tolist()[::-1] == sampled(dna, 21, 20).tolist()
    assert 80 < len(sampled(dna, 21, 20)) < 250


def test_shared_kmers_are_counted_on_either_strand_and_never_across_sequences():
    known = random_dna(500, 4)
    index = KmerIndex.of([known], 24)
    part = known[100:130].translate(COMPLEMENT)[::-1]
    split = [known[:12], known[12:24], random_dna(300, 5), "A" + part, known[:24], ""]
    assert index.shared(split).tolist() == [0, 0, 0, 7, 1, 0]
    assert KmerIndex.of([], 24).shared(split).tolist() == [0] * 6
