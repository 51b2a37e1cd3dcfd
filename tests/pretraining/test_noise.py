import numpy as np
import pytest

from virnuc_dask.pretraining.mutation import IS_STOP, codons_of
from virnuc_dask.pretraining.noise import (
    KINDS,
    noise,
    random_bases,
    repeats,
    same_dinucleotides,
    shuffled_bases,
    shuffled_codons,
)


def bases(count=40, length=500, seed=0):
    """Windows of different composition, in which neighbours depend on each other."""
    rng = np.random.default_rng(seed)
    windows = np.empty((count, length), np.uint8)
    for window in windows:
        transitions = np.cumsum(rng.dirichlet(np.ones(4), 4), axis=1)
        window[0] = rng.integers(4)
        for at in range(1, length):
            window[at] = (rng.random() > transitions[window[at - 1], :3]).sum()
    return windows


def open_windows(count=40, codons=166):
    rng = np.random.default_rng(1)
    chosen = rng.choice(np.flatnonzero(~IS_STOP), (count, codons))
    in_frame = np.stack([chosen >> 4, (chosen >> 2) & 3, chosen & 3], axis=2)
    tail = rng.integers(0, 4, (count, 2))
    return np.concatenate([in_frame.reshape(count, -1), tail], axis=1).astype(np.uint8)


def counts(windows):
    return np.stack([(windows == base).sum(axis=1) for base in range(4)], axis=1)


def dinucleotides(windows):
    pairs = 4 * windows[:, :-1].astype(int) + windows[:, 1:]
    return np.stack([(pairs == pair).mean(axis=1) for pair in range(16)], axis=1)


@pytest.mark.parametrize("make", KINDS)
def test_noise_has_the_form_of_windows_and_is_another_dna(make):
    windows = bases()
    before = windows.copy()
    made = make(windows, np.random.default_rng(0))
    assert (made.shape, made.dtype) == (windows.shape, windows.dtype)
    assert made.max() <= 3
    assert (made != windows).any(axis=1).all()
    np.testing.assert_array_equal(windows, before)


@pytest.mark.parametrize("make", [*KINDS, noise])
def test_the_same_seed_gives_the_same_noise(make):
    windows = bases()
    first, again, other = (make(windows, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("make", [shuffled_bases, shuffled_codons])
def test_shuffling_keeps_every_windows_composition(make):
    windows = bases()
    made = make(windows, np.random.default_rng(0))
    np.testing.assert_array_equal(counts(made), counts(windows))


def test_shuffled_codons_keep_the_frame_open_and_its_codons():
    windows = open_windows()
    made = shuffled_codons(windows, np.random.default_rng(0))
    before, after = codons_of(windows[:, :498]), codons_of(made[:, :498])
    np.testing.assert_array_equal(np.sort(before), np.sort(after))
    assert not IS_STOP[after].any()
    assert (before != after).mean() > 0.9
    np.testing.assert_array_equal(made[:, 498:], windows[:, 498:])
    shuffled = codons_of(shuffled_bases(windows, np.random.default_rng(0))[:, :498])
    assert IS_STOP[shuffled].any(axis=1).mean() > 0.9


def test_dinucleotides_stay_about_as_frequent():
    windows = bases(length=2_000)
    rng = np.random.default_rng(0)
    kept = np.abs(dinucleotides(same_dinucleotides(windows, rng)) - dinucleotides(windows))
    lost = np.abs(dinucleotides(shuffled_bases(windows, rng)) - dinucleotides(windows))
    assert kept.mean() < 0.01
    assert lost.mean() > 3 * kept.mean()


def test_random_bases_are_of_every_gc_content():
    gc = counts(random_bases(bases(400), np.random.default_rng(0)))[:, 1:3].sum(axis=1) / 500
    assert 0.15 < gc.min() < 0.25
    assert 0.75 < gc.max() < 0.85
    assert gc.mean() == pytest.approx(0.5, abs=0.03)


def test_repeats_repeat_a_short_unit_of_the_window():
    windows = bases(100)
    made = repeats(windows, np.random.default_rng(0))
    period = [max((row[unit:] == row[:-unit]).mean() for unit in range(1, 7)) for row in made]
    assert min(period) > 0.85
    np.testing.assert_array_equal(made[:, 0], windows[:, 0])


def test_every_kind_of_noise_is_as_frequent():
    windows = bases(50)
    made = noise(windows, np.random.default_rng(0))
    kept = (counts(made) == counts(windows)).all(axis=1).reshape(5, 10).sum(axis=1)
    assert kept[0] == kept[2] == 10
    assert kept[[1, 3, 4]].max() < 5


@pytest.mark.parametrize("count", range(7))
def test_any_number_of_windows_will_do(count):
    assert noise(bases(7)[:count], np.random.default_rng(0)).shape == (count, 500)
