import random

from virnuc_dask.lab.training.similar import K, kmers_of


def random_dna(length, seed):
    return "".join(random.Random(seed).choices("ACGT", k=length))


def packed(dna):
    return [
        sum(
            "ACGT".index(base) << 2 * (K - 1 - place) for place, base in enumerate(dna[at : at + K])
        )
        for at in range(len(dna) - K + 1)
    ]


def test_packs_every_31_mer():
    dna = random_dna(200, seed=1)
    kmers, at, starts = kmers_of([dna.lower()])
    assert kmers.tolist() == packed(dna)
    assert at.tolist() == list(range(170))
    assert starts.tolist() == [0]


def test_a_31_mer_spans_neither_two_sequences_nor_an_unknown_base():
    given = random_dna(60, seed=3)
    kmers, at, starts = kmers_of([given[:30], given[:31], "", given[:30] + "N" + given[:32]])
    assert kmers.tolist() == [packed(given)[0]] * 2 + [packed(given)[1]]
    assert starts.tolist() == [0, 31, 63, 64]
    assert at.tolist() == [31, 95, 96]


def test_short_sequences_have_none():
    assert not len(kmers_of(["ACGT"])[0])
    assert not len(kmers_of([])[0])
