import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from virnuc_dask.encoders import lookup
from virnuc_dask.encoders.encoder import EncoderSpec, Placement, load_encoder
from virnuc_dask.encoders.lookup import RESIDUES
from virnuc_dask.encoders.ngrams import (
    DNA_TABLES,
    PEPTIDE_TABLES,
    DnaNgrams,
    PeptideNgrams,
    dna_bags,
    peptide_bags,
)
from virnuc_dask.errors import ModelSetError
from virnuc_dask.sequences.bases import BASES

WIDTH = 8


def make_tables(sizes):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(rows, WIDTH, generator=generator).half() for name, rows in sizes.items()
    }


@pytest.fixture(scope="module")
def dna_ngrams():
    return DnaNgrams(make_tables(DNA_TABLES))


@pytest.fixture(scope="module")
def peptide_ngrams():
    return PeptideNgrams(make_tables(PEPTIDE_TABLES))


def random_texts(alphabet, count=60, longest=90, seed=0):
    rng = random.Random(seed)
    return ["".join(rng.choices(alphabet, k=rng.randrange(longest))) for _ in range(count)]


def number(ngram, alphabet):
    value = 0
    for letter in ngram:
        value = value * len(alphabet) + alphabet.index(letter)
    return value


def slow_ids(text, length, step, alphabet):
    """N-grams of whole letters, one after the other."""
    found = (text[at : at + length] for at in range(0, len(text) - length + 1, step))
    return [number(ngram, alphabet) for ngram in found if set(ngram) <= set(alphabet)]


def slow_dna_ids(text):
    return {
        "codons": slow_ids(text, 3, 3, BASES),
        "codon_pairs": slow_ids(text, 6, 3, BASES),
        "six_mers": slow_ids(text, 6, 1, BASES),
    }


def ids_of(bags, index):
    return bags.ids[int(bags.ends[index]) : int(bags.ends[index + 1])].tolist()


def slow_mean(table, ids):
    if not ids:
        return np.zeros(table.shape[1])
    return np.mean([table[number].double().numpy() for number in ids], axis=0)


@pytest.mark.parametrize("alphabet", ["ACGT", "ACGTN", "ACGTNRY-"])
def test_dna_ngrams_are_those_of_the_slow_version(alphabet):
    texts = [*random_texts(alphabet), "", "A", "ACG", "ACGTA", "ACGTAC", "ACGTACG", "NNNNNNN", ""]
    bags = dna_bags(texts)
    for index, text in enumerate(texts):
        expected = slow_dna_ids(text)
        assert {name: ids_of(bags[name], index) for name in bags} == expected


def test_residue_triples_are_those_of_the_slow_version():
    texts = [*random_texts(RESIDUES + "X*"), "", "M", "MK", "MKV"]
    triples = peptide_bags(texts)["residue_triples"]
    for index, text in enumerate(texts):
        assert ids_of(triples, index) == slow_ids(text, 3, 1, RESIDUES)


def test_embeddings_are_means_side_by_side(dna_ngrams, peptide_ngrams):
    for dna in random_texts("ACGTN", count=10):
        ids = slow_dna_ids(dna)
        expected = np.concatenate([slow_mean(dna_ngrams.tables[name], ids[name]) for name in ids])
        np.testing.assert_allclose(dna_ngrams.embed([dna])[0], expected, atol=1e-6)
    for peptide in random_texts(RESIDUES, count=10):
        triples = slow_ids(peptide, 3, 1, RESIDUES)
        expected = slow_mean(peptide_ngrams.tables["residue_triples"], triples)
        np.testing.assert_allclose(peptide_ngrams.embed([peptide])[0], expected, atol=1e-6)


def test_shape_type_and_lower_case(dna_ngrams, peptide_ngrams):
    assert (dna_ngrams.dim, peptide_ngrams.dim) == (3 * WIDTH, WIDTH)
    embedded = dna_ngrams.embed(["ACGTACGTAC", "acgtacgtac"])
    assert embedded.shape == (2, 3 * WIDTH)
    assert embedded.dtype == np.float32
    assert np.array_equal(embedded[0], embedded[1])


@pytest.mark.parametrize("texts", [[], ["", ""], ["NN", "N"], ["A", ""]])
def test_texts_without_ngrams_embed_as_zeros(dna_ngrams, peptide_ngrams, texts):
    for encoder in (dna_ngrams, peptide_ngrams):
        embedded = encoder.embed(texts)
        assert embedded.shape == (len(texts), encoder.dim)
        assert not embedded.any()


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_a_row_does_not_depend_on_the_others_to_the_bit(
    dna_ngrams, peptide_ngrams, block, monkeypatch
):
    dna, peptides = random_texts("ACGTN", longest=600), random_texts(RESIDUES, longest=200)
    alone = np.vstack([dna_ngrams.embed([text]) for text in dna])
    alone_peptides = np.vstack([peptide_ngrams.embed([text]) for text in peptides])
    monkeypatch.setattr(lookup, "BLOCK_LETTERS", block)
    assert np.array_equal(dna_ngrams.embed(dna), alone)
    assert np.array_equal(peptide_ngrams.embed(peptides), alone_peptides)
    assert np.array_equal(dna_ngrams.embed(dna[::-1])[::-1], alone)


def spec(dim=3 * WIDTH, width=WIDTH):
    return EncoderSpec("dna_ngrams", dim, "nucleotide.safetensors", {"width": width})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loads_what_was_saved(tmp_path: Path, dna_ngrams, precision):
    save_file(make_tables(DNA_TABLES), tmp_path / "nucleotide.safetensors")
    loaded = load_encoder(spec(), tmp_path, Placement(precision=precision))
    texts = random_texts("ACGT")
    assert np.array_equal(loaded.embed(texts), dna_ngrams.embed(texts))
    assert loaded.weight_bytes == sum(DNA_TABLES.values()) * WIDTH * 4


@pytest.mark.parametrize("wrong", [spec(dim=7), spec(width=9), spec(width=None)])
def test_refuses_weights_of_another_size(tmp_path: Path, wrong):
    save_file(make_tables(DNA_TABLES), tmp_path / "nucleotide.safetensors")
    with pytest.raises(ModelSetError, match=r"nucleotide\.safetensors"):
        load_encoder(wrong, tmp_path, Placement())


def test_refuses_a_damaged_or_missing_file(tmp_path: Path):
    with pytest.raises(ModelSetError, match="not readable"):
        load_encoder(spec(), tmp_path, Placement())
    (tmp_path / "nucleotide.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(ModelSetError, match="not readable"):
        load_encoder(spec(), tmp_path, Placement())
