"""Encoders of known and of weighed words, against words counted one by one."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from virnuc_dask.encoders import words
from virnuc_dask.encoders.encoder import EncoderSpec, Placement, load_encoder
from virnuc_dask.encoders.words import (
    CLASSES,
    KNOWN_DNA,
    KNOWN_PEPTIDE,
    PATTERNS,
    DnaWords,
    KnownWords,
    PeptideWords,
    Texts,
)
from virnuc_dask.errors import ModelSetError
from virnuc_dask.lab.known_words import pack_log_odds

RNG = np.random.default_rng(7)
PEPTIDES = ["".join(RNG.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in (1, 5, 6, 7, 90, 700)]
PEPTIDES += ["", "MKXVLAAGFW", "mkvlaagf"]
GENES = ["".join(RNG.choice(list("ACGT"), 3 * n)) for n in (1, 5, 6, 7, 90)] + ["", "ATGN" * 9]


def words_of(text, pattern, step=1):
    """The slow way: each word by itself."""
    number = {letter: n for n, letters in enumerate(pattern.alphabet) for letter in letters}
    found = []
    for start in range(0, len(text) - pattern.places[-1], step):
        letters = [text[start + place].upper() for place in pattern.places]
        if all(letter in number for letter in letters):
            value = 0
            for letter in letters:
                value = value * len(pattern.alphabet) + number[letter]
            found.append(value)
    return found


@pytest.mark.parametrize(
    ("pattern", "step", "texts"),
    [*((pattern, 1, PEPTIDES) for pattern in (*PATTERNS, KNOWN_PEPTIDE)), (KNOWN_DNA, 3, GENES)],
)
def test_words_are_those_counted_one_by_one(pattern, step, texts):
    numbers, ends = Texts(texts).words(pattern, step)
    found = [part.tolist() for part in np.split(numbers, ends[1:-1])]
    assert found == [words_of(text, pattern, step) for text in texts]


def test_words_of_dna_leave_third_bases_out():
    gene, changed = "ATGGCTGAAAACCGTTTA", "ATCGCAGAGAATCGCTTG"
    one, other = (Texts([text]).words(KNOWN_DNA, 3).numbers for text in (gene, changed))
    assert one.tolist() == other.tolist() != []


@pytest.fixture(scope="module")
def peptide_tables():
    rows = sum(pattern.words for pattern in PATTERNS)
    return {
        "weights": torch.from_numpy(RNG.integers(-127, 128, (rows, len(CLASSES))).astype("int8")),
        "scale": torch.full((len(CLASSES),), 0.01),
        "bias": torch.arange(len(CLASSES)).float(),
        "known": torch.from_numpy(pack_log_odds(RNG.normal(size=KNOWN_PEPTIDE.words) * 2)),
    }


def test_a_peptide_is_embedded_as_its_words_say(peptide_tables):
    found = PeptideWords(peptide_tables).embed(PEPTIDES)
    weights = peptide_tables["weights"].float().numpy() * 0.01
    first = np.cumsum([0, *(pattern.words for pattern in PATTERNS)])
    for text, values in zip(PEPTIDES, found, strict=True):
        score = np.zeros(len(CLASSES))
        for start, pattern in zip(first, PATTERNS, strict=False):
            if found_words := words_of(text, pattern):
                score += weights[start + np.array(found_words)].mean(axis=0)
        residues = max(len(text), 1)
        score = score * np.sqrt(min(residues, 600) / 200) + np.arange(len(CLASSES))
        np.testing.assert_allclose(values[: len(CLASSES)], score, rtol=1e-4, atol=1e-4)
        assert values[-1] == pytest.approx(np.log(residues / 200), abs=1e-6)


@pytest.mark.parametrize("block", [1, 50])
def test_a_row_does_not_depend_on_the_others_to_the_bit(peptide_tables, monkeypatch, block):
    encoder = PeptideWords(peptide_tables)
    alone = np.vstack([encoder.embed([text]) for text in PEPTIDES])
    monkeypatch.setattr(words, "_BLOCK_LETTERS", block)
    assert np.array_equal(encoder.embed(PEPTIDES[::-1])[::-1], alone)
    assert encoder.embed([]).shape == (0, encoder.dim)


def test_known_words_are_summed_and_counted():
    log_odds = np.zeros(KNOWN_PEPTIDE.words)
    found = words_of("MKVLAAGFWTRE", KNOWN_PEPTIDE)
    log_odds[found[:3]] = [3.5, 1.0, -1.5]
    known = KnownWords(KNOWN_PEPTIDE, torch.from_numpy(pack_log_odds(log_odds)))
    (values,) = known.values(Texts(["MKVLAAGFWTRE"]))
    count = len(found) + 10
    np.testing.assert_allclose(values, [3.0 / np.sqrt(count), 2 / count, 1 / count], rtol=1e-6)


def test_encoders_are_read_from_their_files_and_damage_is_refused(tmp_path, peptide_tables):
    known = torch.from_numpy(pack_log_odds(RNG.normal(size=KNOWN_DNA.words)))
    for kind, dim, texts, tables, made, wrong in (
        ("dna", 3, GENES, {"known": known}, DnaWords, {"known": known[:9].clone()}),
        ("peptide", 8, PEPTIDES, peptide_tables, PeptideWords, {"bias": torch.zeros(2)}),
    ):
        spec = EncoderSpec(f"{kind}_words", dim, kind)
        save_file(tables, tmp_path / kind)
        found = load_encoder(spec, tmp_path, Placement()).embed(texts)
        alone = [made(tables).embed([text]) for text in texts]
        np.testing.assert_array_equal(found, np.concatenate(alone))
        save_file(tables | wrong, tmp_path / kind)
        with pytest.raises(ModelSetError, match=f"{kind}_words"):
            load_encoder(spec, tmp_path, Placement())
