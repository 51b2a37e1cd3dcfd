import threading

import numpy as np
import pytest

from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.masking import (
    Language,
    MaskedTexts,
    cut,
    hide,
    near_equal_batches,
    rounds_ahead,
)

BEGIN, END, MASK = 0, 1, 2
LETTERS = range(10, 36)
LANGUAGE = Language(
    lambda texts: [np.array([BEGIN, *(ord(x) - 87 for x in text), END]) for text in texts],
    MASK,
    LETTERS,
)


def drawn_texts(rng) -> list[str]:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return ["".join(rng.choice(letters, length)) for length in rng.integers(20, 60, 200)]


def masked_texts(draw=drawn_texts, **settings) -> MaskedTexts:
    return MaskedTexts(
        **{
            "draw": draw,
            "validation": drawn_texts(np.random.default_rng(8)),
            "language": LANGUAGE,
            "batch_tokens": 500,
            "mask_share": 0.15,
            "seed": (1, 0),
            **settings,
        }
    )


@pytest.fixture(scope="module")
def hidden():
    tokens = np.random.default_rng(0).integers(10, 36, (400, 102))
    tokens[:, 0], tokens[:, -1] = BEGIN, END
    return tokens, hide(tokens, LANGUAGE, 0.15, np.random.default_rng(1))


def test_so_many_tokens_of_every_text_are_hidden(hidden):
    tokens, batch = hidden
    rows = batch.positions // tokens.shape[1]
    assert (np.bincount(rows) == 15).all()
    assert len(set(batch.positions.tolist())) == len(batch.positions)


def test_begin_and_end_are_never_hidden_and_all_else_is(hidden):
    tokens, batch = hidden
    columns = set((batch.positions % tokens.shape[1]).tolist())
    assert columns == set(range(1, tokens.shape[1] - 1))


def test_targets_are_what_stood_there_and_other_tokens_are_shown(hidden):
    tokens, batch = hidden
    assert np.array_equal(batch.targets, tokens.ravel()[batch.positions])
    others = np.ones(tokens.size, bool)
    others[batch.positions] = False
    assert np.array_equal(batch.shown.ravel()[others], tokens.ravel()[others])


def test_hidden_tokens_are_masked_replaced_and_kept_in_berts_shares(hidden):
    _, batch = hidden
    shown = batch.shown.ravel()[batch.positions]
    masked, kept = (shown == MASK).mean(), (shown == batch.targets).mean()
    replaced = shown[(shown != MASK) & (shown != batch.targets)]
    # One in 26 replaced tokens is replaced by itself.
    assert masked == pytest.approx(0.80, abs=0.02)
    assert kept == pytest.approx(0.10 + 0.10 / 26, abs=0.015)
    assert len(replaced) / len(shown) == pytest.approx(0.10 * 25 / 26, abs=0.015)
    assert set(replaced.tolist()) == set(LETTERS)


def test_the_shortest_text_has_its_one_token_hidden():
    batch = hide(np.array([[BEGIN, 12, END]]), LANGUAGE, 0.15, np.random.default_rng(0))
    assert batch.positions.tolist() == [1]


def test_batches_hold_every_text_once_and_only_near_lengths():
    lengths = [*np.random.default_rng(2).integers(3, 300, 500).tolist(), 2_000]
    batches = near_equal_batches(lengths, 1_000)
    assert sorted(index for batch in batches for index in batch) == list(range(501))
    for batch in batches:
        of_batch = [lengths[index] for index in batch]
        assert min(of_batch) >= 7 / 8 * max(of_batch)
        assert len(batch) == 1 or len(batch) * min(of_batch) <= 1_000
    assert batches[0] == [500]


def test_cut_texts_are_runs_that_keep_both_ends():
    texts = [np.array([BEGIN, *range(10, 10 + n), END]) for n in (8, 5, 7)]
    starts = set()
    for seed in range(20):
        cuts = cut(texts, np.random.default_rng(seed))
        assert cuts.shape == (3, 7)
        assert (cuts[:, 0] == BEGIN).all()
        assert (cuts[:, -1] == END).all()
        assert (np.diff(cuts[:, 1:-1]) == 1).all()
        assert cuts[1, 1:-1].tolist() == texts[1][1:-1].tolist()
        starts.add(int(cuts[0, 1]))
    assert starts == {10, 11, 12, 13}


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a.shown, b.shown) and np.array_equal(a.positions, b.positions)
        for a, b in zip(first, second, strict=True)
    )


def test_a_round_depends_on_its_number_and_the_seed_alone():
    texts = masked_texts()
    texts.round(1)
    assert same(texts.round(2), masked_texts().round(2))
    assert not same(texts.round(2), texts.round(3))
    assert not same(texts.round(2), masked_texts(seed=(1, 1)).round(2))
    assert same(texts.of_validation(), texts.of_validation())


def test_nearly_empty_batches_are_left_out_of_training_but_not_of_validation():
    texts = masked_texts()
    assert min(batch.shown.size for batch in texts.round(1)) >= 250
    assert sum(len(batch.shown) for batch in texts.of_validation()) == 200


def test_if_all_batches_are_nearly_empty_they_are_used():
    texts = masked_texts(lambda rng: ["abc", "abcdefghij"])
    assert sorted(len(batch.shown) for batch in texts.round(1)) == [1, 1]


@pytest.mark.parametrize("drawn", [[], ["", ""]])
def test_nothing_to_learn_from_is_an_error(drawn):
    with pytest.raises(BadInputError, match="training data is empty"):
        masked_texts(lambda rng: drawn).round(1)


def test_rounds_come_in_order_and_the_next_is_made_in_another_thread():
    made = []

    def make(number):
        made.append((number, threading.current_thread() is threading.main_thread()))
        return []

    rounds = rounds_ahead(make, 4)
    assert [next(rounds)[0] for _ in range(3)] == [4, 5, 6]
    rounds.close()
    assert made == [(number, False) for number in (4, 5, 6, 7)]


def test_an_error_while_drawing_reaches_the_caller():
    def make(number):
        raise BadInputError("gone")

    with pytest.raises(BadInputError, match="gone"):
        next(rounds_ahead(make, 1))
