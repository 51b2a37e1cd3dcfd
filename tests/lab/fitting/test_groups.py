import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from virnuc_dask.errors import UsageError
from virnuc_dask.lab.fitting.groups import UNUSED, similar_groups, split_groups

K = 31
COMPLEMENT = str.maketrans("ACGT", "TGCA")
SHARES = (0.8, 0.1, 0.1)


def random_dna(length, seed):
    return "".join(random.Random(seed).choices("ACGT", k=length))


def reverse_complement(dna):
    return dna[::-1].translate(COMPLEMENT)


def groups_of(records, kmers_at_once=1 << 20, piece_nt=1 << 20):
    lengths = np.array(list(map(len, records)))
    return similar_groups(lambda: records, lengths, kmers_at_once, piece_nt).tolist()


def kmers(dna):
    """Both strands; without ambiguous letters and tandem repeats."""
    both = (dna.upper(), reverse_complement(dna.upper()))
    found = {strand[at : at + K] for strand in both for at in range(len(dna) - K + 1)}
    return {
        kmer
        for kmer in found
        if set(kmer) <= set("ACGT") and not any(kmer[p:] == kmer[:-p] for p in range(1, 7))
    }


def slow_groups(records):
    """Every record gets the least index that it is joined with, until nothing changes."""
    group, of = list(range(len(records))), list(map(kmers, records))
    changed = True
    while changed:
        changed = False
        for a in range(len(records)):
            for b in range(a):
                if of[a] & of[b] and group[a] != group[b]:
                    group[a] = group[b] = min(group[a], group[b])
                    changed = True
    return group


PIECES = [random_dna(40, seed=n) for n in range(6)]
# Tandem repeats of up to six bases join nothing; one of seven does.
PIECES += ["A" * 40, "ACGTTG" * 7, "AACGTTC" * 6, "N" * 5]
PIECES += [reverse_complement(piece).lower() for piece in PIECES[:3]]


@settings(max_examples=60, deadline=None)
@example([["ACGTTG" * 7], ["ACGTTG" * 7]], 100, 1)
@example([["AACGTTC" * 6], ["AACGTTC" * 6]], 100, 1)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=3), min_size=1, max_size=8),
    st.sampled_from([100, 1 << 20]),
    st.sampled_from([1, 7, 50, 1 << 20]),
)
def test_records_that_share_a_31_mer_are_one_group(made_of, kmers_at_once, piece_nt):
    records = ["".join(pieces) for pieces in made_of]
    assert groups_of(records, kmers_at_once, piece_nt) == slow_groups(records)


def test_groups_stay_whole_and_parts_get_their_shares_of_both_classes():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 400, 2_000)
    # A tenth of the groups has both classes, a twentieth of the records no weight.
    is_virus = np.where(group < 40, np.arange(2_000) % 2 == 0, group % 3 == 0)
    weight = np.where(np.arange(2_000) % 20 == 0, 0, rng.integers(1, 100, 2_000))
    split, again, other = (
        split_groups(group, is_virus, weight, SHARES, seed=seed) for seed in (1, 1, 2)
    )
    assert again.part.tolist() == split.part.tolist() != other.part.tolist()
    assert ((split.part == UNUSED) == (weight == 0)).all()
    for number in np.unique(group[weight > 0]):
        assert len(set(split.part[(group == number) & (weight > 0)])) == 1
    for of_class in (is_virus, ~is_virus):
        total = weight[of_class].sum()
        for part, share in enumerate(SHARES):
            found = weight[of_class & (split.part == part)].sum() / total
            assert found == pytest.approx(share, abs=0.01)
    sizes = [len(set(group[(split.part == part) & is_virus])) for part in range(3)]
    assert [virus for virus, _ in split.groups] == sizes


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([0, 0, 1, 2, 3, 4, 5], r"2 group\(s\) of virus cannot be split"),
        ([0, 1, 2, 3, 3, 3, 3], r"1 group\(s\) of others cannot be split"),
        # Each part needs both classes, and one group holds the others of two.
        ([0, 1, 2, 0, 0, 1, 1], r"2 group\(s\) of others cannot be split"),
    ],
)
def test_too_few_groups_say_what_to_do(group, message):
    is_virus = np.arange(7) < 3
    with pytest.raises(UsageError, match=f"{message}.*--groups"):
        split_groups(np.array(group), is_virus, np.ones(7, np.int64), SHARES, seed=1)
