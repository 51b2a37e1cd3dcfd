"""Encoders of known and of weighed words, against words counted one by one."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from virnuc_dask.encoders.encoder import EncoderSpec, Placement, load_encoder
from virnuc_dask.encoders.words import (
    CLASSES,
    KNOWN_DNA,
    KNOWN_PEPTIDE,
    PATTERNS,
    DnaWords,
    KnownWords,
    Pattern,
    PeptideWords,
    Texts,
    Words,
)
from virnuc_dask.errors import ModelSetError
from virnuc_dask.lab.known_words import pack_log_odds

RNG = np.random.default_rng(7)
PEPTIDES = ["".join(RNG.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in (1, 5, 6, 7, 90, 700)]
PEPTIDES += ["", "MKXVLAAGFW", "mkvlaagf"]
GENES = ["".join(RNG.choice(list("ACGT"), 3 * n)) for n in (1, 5, 6, 7, 90)] + ["", "ATGN" * 9]


def words_of(text: str, pattern: Pattern, step: int) -> list[int]:
    """The slow way: each word by itself."""
    groups = pattern.alphabet.groups
    number = {letter: n for n, letters in enumerate(groups) for letter in letters}
    found = []
    for start in range(0, len(text) - pattern.places[-1], step):
        letters = [text[start + place].upper() for place in pattern.places]
        if all(letter in number for letter in letters):
            value = 0
            for letter in letters:
                value = value * len(groups) + number[letter]
            found.append(value)
    return found


def listed(words: Words) -> list[list[int]]:
    return [words.numbers[a:b].tolist() for a, b in zip(words.ends, words.ends[1:], strict=False)]


@pytest.mark.parametrize("pattern", [*PATTERNS, KNOWN_PEPTIDE])
def test_words_of_peptides_are_those_counted_one_by_one(pattern):
    found = listed(Texts(PEPTIDES).words(pattern))
    assert found == [words_of(text, pattern, 1) for text in PEPTIDES]


def test_words_of_dna_are_in_phase_and_leave_third_bases_out():
    found = listed(Texts(GENES).words(KNOWN_DNA, step=3))
    assert found == [words_of(text, KNOWN_DNA, 3) for text in GENES]
    gene = "ATGGCTGAAAACCGTTTA"
    changed = "ATCGCAGAGAATCGCTTG"  # other third bases
    one, other = (listed(Texts([text]).words(KNOWN_DNA, step=3)) for text in (gene, changed))
    assert one == other != [[]]


def tables() -> dict[str, torch.Tensor]:
    words = sum(pattern.words for pattern in PATTERNS)
    return {
        "weights": torch.from_numpy(RNG.integers(-127, 128, (words, len(CLASSES))).astype("int8")),
        "scale": torch.full((len(CLASSES),), 0.01),
        "bias": torch.arange(len(CLASSES)).float(),
        "known": torch.from_numpy(pack_log_odds(RNG.normal(size=KNOWN_PEPTIDE.words) * 2)),
    }


@pytest.fixture(scope="module")
def peptide_tables():
    return tables()


def test_a_peptide_is_embedded_as_its_words_say(peptide_tables):
    found = PeptideWords(peptide_tables).embed(PEPTIDES)
    weights = peptide_tables["weights"].float().numpy() * 0.01
    first = np.cumsum([0, *(pattern.words for pattern in PATTERNS)])
    for text, values in zip(PEPTIDES, found, strict=True):
        score = np.zeros(len(CLASSES))
        for start, pattern in zip(first, PATTERNS, strict=False):
            if words := words_of(text, pattern, 1):
                score += weights[start + np.array(words)].mean(axis=0)
        residues = max(len(text), 1)
        score = score * np.sqrt(min(residues, 600) / 200) + np.arange(len(CLASSES))
        np.testing.assert_allclose(values[: len(CLASSES)], score, rtol=1e-4, atol=1e-4)
        assert values[-1] == pytest.approx(np.log(residues / 200), abs=1e-6)


def test_known_words_are_summed_and_counted():
    log_odds = np.zeros(KNOWN_PEPTIDE.words)
    words = words_of("MKVLAAGFWTRE", KNOWN_PEPTIDE, 1)
    log_odds[words[:3]] = [3.5, 1.0, -1.5]
    known = KnownWords(KNOWN_PEPTIDE, torch.from_numpy(pack_log_odds(log_odds)))
    (values,) = known.values(Texts(["MKVLAAGFWTRE"]))
    count = len(words) + 10
    np.testing.assert_allclose(values, [3.0 / np.sqrt(count), 2 / count, 1 / count], rtol=1e-6)


def test_a_text_is_embedded_alike_whatever_stands_beside_it(peptide_tables):
    encoder = PeptideWords(peptide_tables)
    alone = np.concatenate([encoder.embed([text]) for text in PEPTIDES])
    np.testing.assert_array_equal(encoder.embed(PEPTIDES), alone)
    np.testing.assert_array_equal(encoder.embed(PEPTIDES[::-1])[::-1], alone)


def test_encoders_are_read_from_their_files_and_damage_is_refused(tmp_path, peptide_tables):
    known = torch.from_numpy(pack_log_odds(RNG.normal(size=KNOWN_DNA.words)))
    save_file({"known": known}, tmp_path / "dna.safetensors")
    save_file(peptide_tables, tmp_path / "peptide.safetensors")
    dna = EncoderSpec("dna_words", 3, "dna.safetensors")
    peptide = EncoderSpec("peptide_words", 8, "peptide.safetensors")
    np.testing.assert_array_equal(
        load_encoder(dna, tmp_path, Placement()).embed(GENES),
        DnaWords({"known": known}).embed(GENES),
    )
    np.testing.assert_array_equal(
        load_encoder(peptide, tmp_path, Placement()).embed(PEPTIDES),
        PeptideWords(peptide_tables).embed(PEPTIDES),
    )
    save_file(peptide_tables | {"bias": torch.zeros(2)}, tmp_path / "peptide.safetensors")
    with pytest.raises(ModelSetError, match="peptide_words"):
        load_encoder(peptide, tmp_path, Placement())
    save_file({"known": known[:9].clone()}, tmp_path / "dna.safetensors")
    with pytest.raises(ModelSetError, match="dna_words"):
        load_encoder(dna, tmp_path, Placement())
