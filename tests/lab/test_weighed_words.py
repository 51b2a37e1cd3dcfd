import numpy as np
import pytest
import torch

from virnuc_dask.encoders.words import CLASSES, KNOWN_PEPTIDE, PATTERNS, PeptideWords
from virnuc_dask.lab import weighed_words
from virnuc_dask.lab.recipe import WordSettings
from virnuc_dask.lab.weighed_words import A_VIRUS, chances, learn, lesson, targets

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
SHARES = WordSettings().shares
SIZE = sum(pattern.words for pattern in PATTERNS)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(1)


def peptide(rng, letters=LETTERS, length=60):
    return "".join(rng.choice(list(letters), length))


def fresh():
    state = np.zeros((SIZE, 2 * len(CLASSES)), np.float32)
    state[:, len(CLASSES) :] = 1e-3
    return state, np.zeros(len(CLASSES), np.float32)


def slow_step(lesson, state, bias, rate):
    """The same in numpy, word by word."""
    many = len(CLASSES)
    for text, target in enumerate(lesson.target):
        words = [
            lesson.numbers[ends[text] : ends[text + 1]] for ends in lesson.ends if len(ends) > text
        ]
        logits = bias.astype(np.float64)
        for rows in words:
            if len(rows):
                logits += state[rows, :many].mean(axis=0) * lesson.root[text]
        share = np.exp(logits - logits.max())
        share /= share.sum()
        wanted = np.full(many, 0.01)
        if target == A_VIRUS:
            wanted[:2] = 0.98 * share[:2] / share[:2].sum()
        else:
            wanted[target] = 0.97
        error = share - wanted
        bias -= (rate * 0.02 * error).astype(np.float32)
        for rows in words:
            for row in rows:
                slope = error * lesson.root[text] / len(rows)
                state[row, many:] += slope**2
                state[row, :many] -= rate * slope / np.sqrt(state[row, many:])


def test_a_step_is_that_of_plain_numpy(rng):
    peptides = [peptide(rng, length=length) for length in (60, 25, 7, 700)] + [
        "AAAAAAAAAAAAXAAAAAA"
    ]
    taught = lesson(peptides, np.array([0, 1, 2, 3, A_VIRUS]))
    ours, our_bias = fresh()
    theirs, their_bias = fresh()
    weighed_words.step(taught, ours, our_bias, 0.2, WordSettings(word_dropout=0.0), rng)
    slow_step(taught, theirs, their_bias, 0.2)
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(our_bias, their_bias, rtol=1e-4, atol=1e-7)


@pytest.fixture(scope="module")
def learnt(rng):
    """Phages of some letters, prokaryotes of others, viruses of unknown class like phages."""
    phages = [peptide(rng, "ACDEFGHIKLM", 80) for _ in range(40)]
    others = [peptide(rng, "HIKLMNPQRSTVWY", 80) for _ in range(40)]
    kinds = np.array(["phage"] * 30 + ["viral_marker"] * 10 + ["prokaryote"] * 40)
    groups = np.arange(80)
    settings = WordSettings(rounds=2, draws=600)
    peptides = phages + others
    return learn(
        peptides, targets(kinds), chances(kinds, groups, SHARES), settings, seed=3
    ), peptides


def scores(learnt, peptides):
    known = torch.full(((KNOWN_PEPTIDE.words + 1) // 2,), 8 | 8 << 4, dtype=torch.uint8)
    tables = {name: torch.from_numpy(values) for name, values in learnt.tables().items()}
    return PeptideWords(tables | {"known": known}).embed(peptides)[:, : len(CLASSES)]


def test_the_encoder_tells_what_was_learnt_of_new_peptides(learnt, rng):
    new = [peptide(rng, "ACDEFGHIKLM", 50), peptide(rng, "HIKLMNPQRSTVWY", 50)]
    viral, other = scores(learnt[0], new)
    assert viral.argmax() == CLASSES.index("phage")
    assert other.argmax() == CLASSES.index("prokaryote")


def test_eight_bits_are_near_what_was_learnt(learnt):
    weighed, _ = learnt
    tables = weighed.tables()
    assert tables["weights"].dtype == np.int8
    near = np.abs(tables["weights"] * tables["scale"] - weighed.weights) <= tables["scale"]
    assert near.mean() > 0.999


def test_the_same_seed_learns_the_same(learnt):
    weighed, peptides = learnt
    kinds = np.array(["phage"] * 30 + ["viral_marker"] * 10 + ["prokaryote"] * 40)
    settings = WordSettings(rounds=2, draws=600)
    again = learn(peptides, targets(kinds), chances(kinds, np.arange(80), SHARES), settings, seed=3)
    assert again.weights.tobytes() == weighed.weights.tobytes()


def test_a_large_group_and_a_large_kind_do_not_rule():
    kinds = np.array(["phage"] * 101 + ["prokaryote"] + ["noise"])
    groups = np.array(["much"] * 100 + ["one"] + ["x", "y"])
    chance = chances(kinds, groups, {"phage": 0.5, "prokaryote": 0.5})
    assert chance.sum() == pytest.approx(1)
    assert chance[101] == pytest.approx(0.5)
    assert chance[:100].sum() == pytest.approx(10 * chance[100])
    assert chance[102] == 0


def test_a_plasmid_teaches_what_prokaryotes_are():
    kinds = np.array(["plasmid", "viral_marker", "transcript", "eukaryotic_virus"])
    assert targets(kinds).tolist() == [2, A_VIRUS, 3, 1]
