import numpy as np
import pytest
from Bio.Align import substitution_matrices

from virnuc_dask.encoders.ngrams import RESIDUES
from virnuc_dask.pretraining import mutation
from virnuc_dask.pretraining.mutation import IS_STOP, codons_of, mutate
from virnuc_dask.sequences.frames import translate

NOT_STOP = np.flatnonzero(~IS_STOP)
AMINO_ACID = np.frombuffer(
    translate("".join(a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT")).encode(), np.uint8
)


def bases_of(codons):
    return np.stack([codons >> 4, (codons >> 2) & 3, codons & 3], axis=2).reshape(len(codons), -1)


def windows_of(codons, offset=0, length=None):
    """Windows with these codons from ``offset`` on; what is before and after are T and A."""
    inside = bases_of(codons)
    length = length or offset + inside.shape[1] + 2
    windows = np.full((len(codons), length), 0, np.uint8)
    windows[:, :offset] = 3
    windows[:, offset : offset + inside.shape[1]] = inside
    return windows


def random_codons(count, length=150, seed=0):
    return np.random.default_rng(seed).choice(NOT_STOP, (count, length))


def mutated(codons, share, seed=0):
    windows = windows_of(codons)
    made = mutate(windows, share, np.random.default_rng(seed))
    np.testing.assert_array_equal(made[:, -2:], windows[:, -2:])
    return codons_of(made[:, :-2])


def changed(codons, made):
    """Share of each window's residues that are others now."""
    return (AMINO_ACID[codons] != AMINO_ACID[made]).mean(axis=1)


def test_the_matrix_is_blosum62():
    matrix = substitution_matrices.load("BLOSUM62")
    expected = [[matrix[a, b] for b in RESIDUES] for a in RESIDUES]
    found = np.array(mutation._BLOSUM62.split(), float).reshape(20, 20)
    np.testing.assert_array_equal(found, expected)


def test_codons_are_numbered_in_the_order_of_the_bases():
    assert codons_of(np.array([[0, 0, 1, 3, 3, 3]], np.uint8)).tolist() == [[1, 63]]
    assert codons_of(np.empty((0, 6), np.uint8)).shape == (0, 2)
    assert sorted(np.flatnonzero(IS_STOP)) == [48, 50, 56]  # TAA, TAG, TGA


def test_open_frames_stay_open():
    made = mutated(random_codons(300), 0.99)
    assert not IS_STOP[made].any()


def test_a_share_of_nothing_changes_nothing():
    codons = random_codons(50)
    np.testing.assert_array_equal(mutated(codons, 0.0), codons)


def test_the_input_is_not_written_to():
    windows = windows_of(random_codons(20))
    before = windows.copy()
    assert (mutate(windows, 0.9, np.random.default_rng(0)) != before).any()
    np.testing.assert_array_equal(windows, before)


def test_the_more_is_asked_for_the_more_changes_but_never_more_than_that():
    codons = random_codons(1_000)
    shares = (0.1, 0.3, 0.6, 0.9)
    found = [changed(codons, mutated(codons, share)) for share in shares]
    means = [one.mean() for one in found]
    assert means == sorted(means)
    for share, one in zip(shares, found, strict=True):
        # Half of the highest share on average, some replaced by themselves.
        assert 0.25 * share < one.mean() < 0.5 * share
        deviation = np.sqrt(share * (1 - share) / 150)
        assert one.max() < share + 4 * deviation


def test_windows_differ_in_how_much_changes():
    codons = random_codons(500)
    found = changed(codons, mutated(codons, 0.8))
    assert np.quantile(found, 0.1) < 0.1
    assert np.quantile(found, 0.9) > 0.4


def test_likely_replacements_are_more_frequent():
    isoleucine, valine, aspartate = (np.flatnonzero(ord(letter) == AMINO_ACID) for letter in "IVD")
    rng = np.random.default_rng(0)
    codons = np.where(rng.random((400, 150)) < 0.5, isoleucine[0], random_codons(400))
    made = mutated(codons, 0.9)[codons == isoleucine[0]]
    assert np.isin(made, valine).sum() > 5 * np.isin(made, aspartate).sum() > 0


def test_codons_that_a_window_never_uses_stay_rare():
    # One codon for every amino acid: the one that ends in the strongest bases.
    favourite = np.array([np.flatnonzero(ord(letter) == AMINO_ACID)[-1] for letter in RESIDUES])
    rng = np.random.default_rng(0)
    codons = favourite[rng.integers(20, size=(200, 150))]
    made = mutated(codons, 0.9)
    replaced = made[AMINO_ACID[made] != AMINO_ACID[codons]]
    assert len(replaced) > 3_000
    assert np.isin(replaced, favourite).mean() > 0.8
    everything = random_codons(200)
    made = mutated(everything, 0.9)
    replaced = made[AMINO_ACID[made] != AMINO_ACID[everything]]
    assert np.isin(replaced, favourite).mean() < 0.5


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_the_first_open_frame_is_the_one(offset):
    tag, ccc = np.array([[50]]), 0b010101
    codons = np.full((1, 60), ccc)
    windows = windows_of(codons, length=3 * 60 + 2).repeat(200, axis=0)
    for closed in range(offset):
        windows[:, 90 + 31 * closed : 93 + 31 * closed] = bases_of(tag)
    made = mutate(windows, 0.9, np.random.default_rng(0))
    frames = [codons_of(made[:, o : o + 180]) for o in range(3)]
    assert not IS_STOP[frames[offset]].any()
    assert (made != windows).any(axis=1).mean() > 0.8
    np.testing.assert_array_equal(made[:, :offset], windows[:, :offset])
    np.testing.assert_array_equal(made[:, offset + 180 :], windows[:, offset + 180 :])


def test_windows_without_an_open_forward_frame_stay():
    windows = windows_of(random_codons(50), length=452)
    for offset in range(3):
        windows[::2, 90 + 9 * offset + offset : 93 + 9 * offset + offset] = bases_of(
            np.array([[50]])
        )
    made = mutate(windows, 0.9, np.random.default_rng(0))
    np.testing.assert_array_equal(made[::2], windows[::2])
    assert (made[1::2] != windows[1::2]).any(axis=1).mean() > 0.8


def test_the_same_seed_gives_the_same_mutations():
    codons = random_codons(50)
    np.testing.assert_array_equal(mutated(codons, 0.5, seed=3), mutated(codons, 0.5, seed=3))
    assert (mutated(codons, 0.5, seed=3) != mutated(codons, 0.5, seed=4)).any()


def test_no_window_is_no_mutation():
    assert mutate(np.empty((0, 200), np.uint8), 0.5, np.random.default_rng(0)).shape == (0, 200)
