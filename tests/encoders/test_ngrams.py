from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from virnuc_dask.encoders import lookup
from virnuc_dask.encoders.encoder import EncoderSpec, Placement, load_encoder
from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES, DnaNgrams, PeptideNgrams
from virnuc_dask.errors import ModelSetError

WIDTH = 8
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
RNG = np.random.default_rng(0)


def make_tables(sizes):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(rows, WIDTH, generator=generator).half() for name, rows in sizes.items()
    }


DNA, PEPTIDE = make_tables(DNA_TABLES), make_tables(PEPTIDE_TABLES)


def random_texts(letters, longest=90):
    return ["".join(RNG.choice(list(letters), n)) for n in RNG.integers(0, longest, 40)]


CASES = {
    "dna": (DnaNgrams(DNA), [*random_texts("ACGTN"), "", "A", "ACGTA", "ACGTACG", "NNNNNNN", "é"]),
    "peptide": (PeptideNgrams(PEPTIDE), [*random_texts(RESIDUES + "X*"), "", "MK", "MKV"]),
}


def slow_mean(table, text, length, step, letters):
    """Of the n-grams of whole letters, one after the other."""
    number = {"".join(ngram): row for row, ngram in enumerate(product(letters, repeat=length))}
    found = (text[at : at + length] for at in range(0, len(text) - length + 1, step))
    rows = [table[number[ngram]].double().numpy() for ngram in found if ngram in number]
    return np.mean(rows, axis=0) if rows else np.zeros(WIDTH)


def test_embeddings_are_means_side_by_side():
    encoder, texts = CASES["dna"]
    for text, embedded in zip(texts, encoder.embed(texts), strict=True):
        kinds = (("codons", 3, 3), ("codon_pairs", 6, 3), ("six_mers", 6, 1))
        means = [slow_mean(DNA[name], text, *kind, "ACGT") for name, *kind in kinds]
        np.testing.assert_allclose(embedded, np.concatenate(means), atol=1e-6)
    encoder, texts = CASES["peptide"]
    for text, embedded in zip(texts, encoder.embed(texts), strict=True):
        expected = slow_mean(PEPTIDE["residue_triples"], text, 3, 1, RESIDUES)
        np.testing.assert_allclose(embedded, expected, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_a_row_does_not_depend_on_the_others_or_on_case_to_the_bit(name, block, monkeypatch):
    encoder, texts = CASES[name]
    alone = np.vstack([encoder.embed([text]) for text in texts])
    assert (alone.shape, alone.dtype) == ((len(texts), encoder.dim), np.float32)
    monkeypatch.setattr(lookup, "BLOCK_LETTERS", block)
    assert np.array_equal(encoder.embed([text.lower() for text in texts[::-1]])[::-1], alone)
    assert encoder.embed([]).shape == (0, encoder.dim)


def spec(dim=3 * WIDTH, file="nucleotide.safetensors"):
    return EncoderSpec("dna_ngrams", dim, file, {"width": WIDTH})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loads_what_was_saved(tmp_path, precision):
    save_file(DNA, tmp_path / "nucleotide.safetensors")
    loaded = load_encoder(spec(), tmp_path, Placement(precision=precision))
    encoder, texts = CASES["dna"]
    assert np.array_equal(loaded.embed(texts), encoder.embed(texts))
    assert loaded.weight_bytes == sum(DNA_TABLES.values()) * WIDTH * 4


@pytest.mark.parametrize(
    "wrong", [spec(dim=7), spec(file="peptide"), spec(file="bad"), spec(file="none")]
)
def test_weights_that_are_others_damaged_or_missing_are_refused(tmp_path, wrong):
    save_file(DNA, tmp_path / "nucleotide.safetensors")
    save_file(PEPTIDE, tmp_path / "peptide")
    (tmp_path / "bad").write_bytes(b"no tensors here")
    with pytest.raises(ModelSetError, match=wrong.file):
        load_encoder(wrong, tmp_path, Placement())
