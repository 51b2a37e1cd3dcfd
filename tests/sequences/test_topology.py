import random

import pytest

from virnuc_dask.sequences.bases import reverse_complement
from virnuc_dask.sequences.topology import DIRECT, INVERTED, terminal_repeat


def drawn(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=length))


@pytest.mark.parametrize("length", [20, 21, 127, 1000])
def test_an_end_that_is_the_beginning_again_or_read_backwards_is_a_repeat(length):
    end = drawn(length, 1)
    assert terminal_repeat(end.lower() + drawn(3000) + end) == DIRECT
    near = end[:30] + drawn(40, 2)  # the beginning may be near the end once more
    assert terminal_repeat(end + drawn(2000) + near + end) == DIRECT
    assert terminal_repeat(end + drawn(3000) + reverse_complement(end)) == INVERTED


@pytest.mark.parametrize(
    "dna",
    [
        "",
        drawn(5000),
        drawn(19, 1) + drawn(3000) + drawn(19, 1),
        drawn(100, 1) + drawn(3000) + drawn(100, 1)[:-1] + "A" * 30,
        "A" * 60 + drawn(3000) + "A" * 60,
        "ACG" * 20 + drawn(3000) + "ACG" * 20,
        "N" * 60 + drawn(3000) + "N" * 60,
        "N" * 3000,
        drawn(16, 1) * 60,
        drawn(150, 1) * 2 + drawn(3000) + drawn(150, 1) * 2,
        drawn(1000, 1)[:19] + "N" + drawn(500) + drawn(1000, 1)[:19] + "N",
    ],
)
def test_what_is_short_simple_or_unknown_is_no_repeat(dna):
    assert terminal_repeat(dna) is None


def test_no_more_than_half_of_a_record_is_a_repeat():
    assert terminal_repeat((drawn(30, 1) * 3)[:75]) is None  # 45 are the same
    assert terminal_repeat((drawn(30, 1) * 2)[:60]) == DIRECT
