import random

import pytest
from Bio.Data.CodonTable import standard_dna_table
from hypothesis import example, given
from hypothesis import strategies as st

from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.sequences.frames import find_frames

CODONS = {**standard_dna_table.forward_table, **dict.fromkeys(standard_dna_table.stop_codons, "*")}
OPEN_CODONS = sorted(standard_dna_table.forward_table)
COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


def published_frames(chunk: str) -> list[tuple[str, str, str]]:
    """The published rules, one codon at a time: (suffix, DNA, peptide) of every kept reading."""
    forward = chunk.upper()
    reverse = "".join(COMPLEMENT.get(base, base) for base in reversed(forward))
    kept = []
    for strand, dna in (("F", forward), ("R", reverse)):
        for k in range(3):
            codons = [dna[at : at + 3] for at in range(k, len(dna) - 2, 3)]
            peptide = "".join(CODONS[codon] for codon in codons if codon in CODONS)
            if peptide and "*" not in peptide:
                kept.append((f"{strand}{k + 1}", dna[k : k + 3 * len(peptide) + 1], peptide))
    return kept


def record_dna(rng: random.Random, length: int) -> str:
    """DNA with a long open frame on either strand, a few stops, and now and then odd letters."""
    dna = "".join(rng.choices(OPEN_CODONS, k=length // 3 + 2))[rng.randrange(3) :]
    if rng.random() < 0.5:
        dna = "".join(COMPLEMENT[base] for base in reversed(dna))
    letters = list(dna[:length])
    odd = rng.choice(["", "", "N", "NRYKMSWBDHVU-", "acgt", "acgtn"])
    for _ in range(rng.choice([0, 1, 5, length // 20]) if odd else 0):
        letters[rng.randrange(length)] = rng.choice(odd)
    return "".join(letters)


@pytest.mark.parametrize("chunk_length", [300, 500])
def test_frames_of_every_record_length_follow_the_published_rules(chunk_length):
    rng = random.Random(chunk_length)
    kept = 0
    for first in range(1, 2 * chunk_length + 1, 100):  # alone, and as what is left of a record
        records = [record_dna(rng, n) for n in range(first, first + 100)]
        chunks = [dna[i:j] for dna in records for i, j in chunk_spans(len(dna), chunk_length)]
        for chunk, frames in zip(chunks, find_frames(chunks), strict=True):
            assert [(f.suffix, f.dna, f.peptide) for f in frames] == published_frames(chunk)
            kept += len(frames)
    assert kept > 1_000  # there was something to compare


texts = st.text("ACGTNRYacgtnry-U", max_size=40) | st.text("ACG", max_size=200)


@given(st.lists(texts, max_size=8))
@example([])
@example(["", "A", "AC", "NNN", "N" * 500, "---", "TAA", "ACN", "ATGNNNAAACCC", "GGGCCCRAAC"])
def test_any_chunks_together_follow_the_published_rules(chunks):
    found = [[(f.suffix, f.dna, f.peptide) for f in frames] for frames in find_frames(chunks)]
    assert found == [published_frames(chunk) for chunk in chunks]
