import random

import numpy as np
import pytest
from Bio.Data.CodonTable import standard_dna_table, unambiguous_dna_by_id
from Bio.Seq import Seq

from virnuc_dask.sequences import bases
from virnuc_dask.sequences.bases import (
    BASES,
    CODONS,
    STOPS,
    UNKNOWN_CODON,
    codons_of,
    numbers_of,
    other_strand,
    reverse_complement,
    share_of_gc,
    translate,
    translate_codons,
)

TABLE = {**standard_dna_table.forward_table, **dict.fromkeys(standard_dna_table.stop_codons, "*")}
IUPAC = "ACGTRYSWKMBDHVN-"


def drawn(length, letters=BASES, seed=1):
    return "".join(random.Random(seed).choices(letters, k=length))


def test_the_other_strand_is_biopythons():
    dna = drawn(500, IUPAC)
    assert reverse_complement(dna) == str(Seq(dna).reverse_complement())
    dna = drawn(200, "ACGTN")
    turned = other_strand(numbers_of(dna.encode()))
    assert turned.tolist() == numbers_of(reverse_complement(dna).encode()).tolist()


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("letters", [BASES, "ACGTN", "N"])
def test_a_codon_begins_at_each_place_but_the_last_two(length, letters):
    dna = drawn(length, letters, seed=length)
    number = {codon: place for place, codon in enumerate(CODONS)}
    expected = [number.get(dna[at : at + 3], UNKNOWN_CODON) for at in range(length)]
    assert codons_of(numbers_of(dna.encode())).tolist() == expected


def test_every_codon_is_translated_by_the_standard_code():
    assert translate("".join(CODONS)) == "".join(TABLE[codon] for codon in CODONS)
    assert {codon for codon in CODONS if TABLE[codon] == "*"} == set(STOPS)
    assert translate("atgNAATGa") == "MX*"


@pytest.mark.parametrize("table", [4, 11, 15, 25])
def test_every_codon_is_translated_by_its_own_code(table):
    forward = unambiguous_dna_by_id[table].forward_table if table != 15 else TABLE | {"TAG": "Q"}
    tables = np.full(64, table, np.int8)
    found = translate_codons("".join(CODONS), tables).tobytes().decode()
    assert found == "".join(forward.get(codon, "*") for codon in CODONS)


@pytest.mark.parametrize("block_nt", [7, 5000, 1 << 18])
@pytest.mark.parametrize("length", [0, 1, 200, 10_001])
@pytest.mark.parametrize("letters", [IUPAC + IUPAC.lower(), "N", "GgCcaT"])
def test_gc_is_the_share_among_bases(monkeypatch, block_nt, length, letters):
    monkeypatch.setattr(bases, "_BLOCK_NT", block_nt)
    dna = drawn(length, letters)
    count = {letter: dna.upper().count(letter) for letter in BASES}
    known = sum(count.values())
    assert share_of_gc(dna) == ((count["G"] + count["C"]) / known if known else None)
