import numpy as np
import pytest
import torch

from virnuc_dask.encoders.words import CLASSES, KNOWN_PEPTIDE, PATTERNS, PeptideWords
from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.recipe import WordSettings
from virnuc_dask.lab.weighed_words import A_VIRUS, learn, lesson, step, targets

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def peptide(rng, letters=LETTERS, length=60):
    return "".join(rng.choice(list(letters), length))


def test_the_encoder_tells_what_was_learnt_of_new_peptides_each_time_the_same():
    """Phages of some letters, prokaryotes of others, viruses of unknown class like phages."""
    rng = np.random.default_rng(1)
    kinds = np.array(["phage"] * 30 + ["viral_marker"] * 10 + ["prokaryote"] * 40)
    peptides = [peptide(rng, "ACDEFGHIKLM" if k != "prokaryote" else LETTERS[7:]) for k in kinds]
    settings = WordSettings(rounds=2, draws=600)
    chance = chances(kinds, np.arange(80), settings.shares)
    learnt, again = (learn(peptides, targets(kinds), chance, settings, seed=3) for _ in range(2))
    assert again.weights.tobytes() == learnt.weights.tobytes()
    tables = learnt.tables()
    assert tables["weights"].dtype == np.int8
    near = np.abs(tables["weights"] * tables["scale"] - learnt.weights) <= tables["scale"]
    assert near.mean() > 0.999
    known = torch.full(((KNOWN_PEPTIDE.words + 1) // 2,), 8 | 8 << 4, dtype=torch.uint8)
    encoder = PeptideWords({n: torch.from_numpy(t) for n, t in tables.items()} | {"known": known})
    new = [peptide(rng, "ACDEFGHIKLM", 50), peptide(rng, LETTERS[7:], 50)]
    viral, other = encoder.embed(new)[:, : len(CLASSES)]
    assert viral.argmax() == CLASSES.index("phage")
    assert other.argmax() == CLASSES.index("prokaryote")


def test_a_large_group_and_a_large_kind_do_not_rule():
    kinds = np.array(["phage"] * 101 + ["prokaryote"] + ["noise"])
    groups = np.array(["much"] * 100 + ["one"] + ["x", "y"])
    chance = chances(kinds, groups, {"phage": 0.5, "prokaryote": 0.5})
    assert chance.sum() == pytest.approx(1)
    assert chance[101] == pytest.approx(0.5)
    assert chance[:100].sum() == pytest.approx(10 * chance[100])
    assert chance[102] == 0


def fresh():
    state = np.zeros((sum(pattern.words for pattern in PATTERNS), 2 * len(CLASSES)), np.float32)
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


def test_a_step_is_that_of_plain_numpy():
    rng = np.random.default_rng(1)
    peptides = [peptide(rng, length=length) for length in (60, 25, 7, 700)]
    taught = lesson([*peptides, "AAAAAAAAAAAAXAAAAAA"], np.array([0, 1, 2, 3, A_VIRUS]))
    ours, our_bias = fresh()
    theirs, their_bias = fresh()
    step(taught, ours, our_bias, 0.2, WordSettings(word_dropout=0.0), rng)
    slow_step(taught, theirs, their_bias, 0.2)
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(our_bias, their_bias, rtol=1e-4, atol=1e-7)
