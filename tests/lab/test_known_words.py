import numpy as np
import pytest
import torch

from virnuc_dask.encoders.words import SIX, KnownWords, Pattern, Texts
from virnuc_dask.lab import known_words
from virnuc_dask.lab.known_words import count, log_odds, pack_log_odds

PATTERN = Pattern(SIX, (0, 1, 2))


def test_a_word_counts_once_a_group_and_side():
    texts = ["ACD", "ACD", "ACD", "WCD", "ACDACD"]
    groups = np.array(["one", "one", "two", "two", "one"])
    viral = np.array([True, True, True, False, False])
    counts = count(PATTERN, texts, groups, viral)
    (acd,) = Texts(["ACD"]).words(PATTERN).numbers
    (wcd,) = Texts(["WCD"]).words(PATTERN).numbers
    assert counts[:, acd].tolist() == [1, 2]
    assert counts[:, wcd].tolist() == [1, 0]


def test_words_of_a_group_are_counted_once_however_many_blocks(monkeypatch):
    texts, groups, viral = ["ACDEF"] * 5, np.zeros(5), np.ones(5, bool)
    once = count(PATTERN, texts, groups, viral)
    monkeypatch.setattr(known_words, "_MOST_LETTERS", 7)
    assert (count(PATTERN, texts, groups, viral) == once).all()
    assert once.max() == 1


def test_only_every_step_th_word_counts():
    every = count(PATTERN, ["ACDEFG"], np.zeros(1), np.ones(1, bool), step=3)
    (acd,) = Texts(["ACD"]).words(PATTERN).numbers
    (efg,) = Texts(["EFG"]).words(PATTERN).numbers
    assert np.flatnonzero(every[1]).tolist() == sorted([acd, efg])


def test_log_odds_are_of_equally_many_words_and_0_of_what_is_unknown():
    counts = np.array([[0, 9, 1, 10], [0, 3, 1, 0]])
    odds = log_odds(counts)
    even = np.log(20.5 / 4.5)
    assert odds == pytest.approx([0, np.log(3.5 / 9.5) + even, even, np.log(0.5 / 10.5) + even])


def test_the_encoder_reads_the_table():
    texts = ["ACDACDACD", "WWWYYYWWW"]
    viral = np.array([True, False])
    counts = count(PATTERN, texts, np.arange(2), viral)
    known = KnownWords(PATTERN, torch.from_numpy(pack_log_odds(log_odds(counts))))
    virus, other = known.values(Texts(texts))
    assert virus[0] > 0 > other[0]


def test_of_no_texts_nothing_is_known():
    counts = count(PATTERN, [], np.zeros(0), np.zeros(0, bool))
    assert (log_odds(counts) == 0).all()
