import numpy as np
import pytest
import torch

from virnuc_dask.encoders.words import CLASSES, KNOWN_PEPTIDE, PeptideWords
from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.recipe import WordSettings
from virnuc_dask.lab.weighed_words import learn, targets

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
