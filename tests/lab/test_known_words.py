import numpy as np
import pytest

from virnuc_dask.encoders.words import SIX, Pattern, Texts
from virnuc_dask.lab import known_words
from virnuc_dask.lab.known_words import count, log_odds

PATTERN = Pattern(SIX, (0, 1, 2))


def number(word):
    return Texts([word]).words(PATTERN).numbers[0]


@pytest.mark.parametrize("most_letters", [1 << 22, 7])  # however many blocks
def test_a_word_counts_once_a_group_and_side(monkeypatch, most_letters):
    monkeypatch.setattr(known_words, "_MOST_LETTERS", most_letters)
    texts = ["ACD", "ACD", "ACD", "WCD", "ACDACD"]
    groups = np.array(["one", "one", "two", "two", "one"])
    counts = count(PATTERN, texts, groups, np.array([True, True, True, False, False]))
    assert counts[:, number("ACD")].tolist() == [1, 2]
    assert counts[:, number("WCD")].tolist() == [1, 0]
    assert not log_odds(count(PATTERN, [], groups[:0], np.zeros(0, bool))).any()


def test_log_odds_are_of_equally_many_words_and_0_of_what_is_unknown():
    odds = log_odds(np.array([[0, 9, 1, 10], [0, 3, 1, 0]]))
    even = np.log(20.5 / 4.5)
    assert odds == pytest.approx([0, np.log(3.5 / 9.5) + even, even, np.log(0.5 / 10.5) + even])
