import numpy as np
import pytest

from virnuc_dask.lab.splits.kmers import KmerIndex, kmers_of, words_of

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def random_dna(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def slowly(dna, k):
    number = {base: str(code) for code, base in enumerate("ACGT")}
    texts = (dna[at : at + k] for at in range(len(dna) - k + 1))
    both = ((text, text[::-1].translate(COMPLEMENT)) for text in texts if set(text) <= set("ACGT"))
    return [min(int("".join(number[base] for base in text), 4) for text in two) for two in both]


@pytest.mark.parametrize("k", [1, 2, 21, 24, 31])
def test_kmers_are_the_smaller_of_both_strands(k):
    dna = random_dna(200, 1) + "N" + random_dna(60, 2)
    assert kmers_of([dna], k).number.tolist() == slowly(dna, k)
    assert kmers_of([dna.lower()], k).number.tolist() == slowly(dna, k)


def test_a_word_is_of_one_text_and_of_known_letters():
    dna = random_dna(60, 3)
    words = kmers_of([dna[:30], dna[:31], "", dna[:30] + "N" + dna[:32]], 31)
    assert words.text.tolist() == [1, 3, 3]
    assert words.number.tolist() == [*slowly(dna[:31], 31), *slowly(dna[:32], 31)]
    assert len(kmers_of(["ACGT"], 31).number) == len(kmers_of([], 31).number) == 0
    peptides = words_of(["MKVA", "XMKV", "mkv"], 3)
    assert peptides.text.tolist() == [0, 0, 1, 2]
    assert len(set(peptides.number.tolist())) == 2


def test_shared_kmers_are_counted_on_either_strand_and_never_across_sequences():
    known = random_dna(500, 4)
    index = KmerIndex.of([known], 24)
    part = known[100:130].translate(COMPLEMENT)[::-1]
    split = [known[:12], known[12:24], random_dna(300, 5), "A" + part, known[:24], ""]
    assert index.shared(split).tolist() == [0, 0, 0, 7, 1, 0]
    assert KmerIndex.of([], 24).shared(split).tolist() == [0] * 6
