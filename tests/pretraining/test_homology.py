import random
import shutil
from dataclasses import replace

import pytest

from virnuc_dask.errors import UsageError
from virnuc_dask.pretraining.genes import (
    OTHER,
    TEST,
    TRAIN,
    TRANSCRIPT,
    VALIDATION,
    VIRUS,
    Gene,
    part_of,
)
from virnuc_dask.pretraining.homology import Likeness, similar_pairs, split_genes
from virnuc_dask.sequences.frames import translate

SHARES = {TEST: 0.3, VALIDATION: 0.3}
RANKS = {TRAIN: 0, VALIDATION: 1, TEST: 2}


@pytest.fixture
def genome_in():
    """Names a new genome that the hash puts on a side."""
    numbers = iter(range(1_000))

    def find(part: str) -> str:
        return next(n for n in (f"genome{i}" for i in numbers) if part_of(n, SHARES) == part)

    return find


@pytest.fixture
def gene(coding):
    rng = random.Random(0)

    def make(genome: str, kind: str = OTHER, like: Gene | None = None) -> Gene:
        dna = coding(rng, 60)
        if like is not None:
            dna = dna[:90] + like.dna[90:129] + dna[129:]  # thirteen residues the same
        return Gene(f"gene{rng.random()}", dna, kind, genome)

    return make


def side_of(split, index: int) -> str | None:
    return next((part for part, chosen in split.parts.items() if index in chosen), None)


@pytest.mark.parametrize("first", list(RANKS))
@pytest.mark.parametrize("second", list(RANKS))
def test_of_two_similar_genes_the_less_held_out_is_left_out(
    install_mmseqs, genome_in, gene, first, second
):
    install_mmseqs()
    a = gene(genome_in(first))
    b = gene(genome_in(second), VIRUS, like=a)
    rest = [gene(genome_in(part)) for part in RANKS]
    split = split_genes([a, b, *rest], SHARES, Likeness(), threads=1)
    assert side_of(split, 0) == (first if RANKS[first] >= RANKS[second] else None)
    assert side_of(split, 1) == (second if RANKS[second] >= RANKS[first] else None)
    assert [side_of(split, index) for index in (2, 3, 4)] == list(RANKS)
    assert split.left_out == int(first != second)


def test_a_gene_that_is_left_out_still_keeps_its_relatives_out(install_mmseqs, genome_in, gene):
    install_mmseqs()
    held_out = gene(genome_in(TEST))
    chosen = gene(genome_in(VALIDATION), like=held_out)
    # Like the validation gene in other residues than that is like the test gene.
    trained = gene(genome_in(TRAIN))
    trained = replace(trained, dna=trained.dna[:129] + chosen.dna[129:])
    split = split_genes([held_out, chosen, trained], SHARES, Likeness(), threads=1)
    assert dict(split.parts) == {TEST: [0], VALIDATION: [], TRAIN: []}


@pytest.mark.parametrize("found", ["0\\t1", "1\\t0"])
def test_a_pair_that_is_found_from_one_side_only_is_enough(install_mmseqs, genome_in, gene, found):
    install_mmseqs(f"#!/bin/sh\nprintf '{found}\\n' > $4\n")
    genes = [gene(genome_in(VALIDATION)), gene(genome_in(TEST))]
    split = split_genes(genes, SHARES, Likeness(), threads=1)
    assert dict(split.parts) == {TEST: [1], VALIDATION: [], TRAIN: []}


def test_genomes_stay_whole_but_for_what_is_left_out(install_mmseqs, genome_in, gene):
    install_mmseqs()
    genomes = [genome_in(part) for part in (*RANKS, *RANKS)]
    genes = [gene(genome) for genome in genomes for _ in range(5)]
    split = split_genes(genes, SHARES, Likeness(), threads=1)
    assert sorted(index for chosen in split.parts.values() for index in chosen) == list(range(30))
    for index, one in enumerate(genes):
        assert side_of(split, index) == part_of(one.genome, SHARES)


@pytest.mark.parametrize(("related", "is_phage"), [(0, False), (1, False), (2, True), (20, True)])
def test_phages_have_a_tenth_of_their_genes_in_common_with_prokaryotes(
    install_mmseqs, genome_in, gene, related, is_phage
):
    install_mmseqs()
    virus = genome_in(TEST)
    bacterial = [gene(genome_in(TRAIN)) for _ in range(related)]
    viral = [gene(virus, VIRUS, like=one) for one in bacterial]
    viral += [gene(virus, VIRUS) for _ in range(20 - related)]
    split = split_genes([*bacterial, *viral], SHARES, Likeness(), threads=1)
    assert split.phages == ({virus} if is_phage else frozenset())


def test_only_viral_genomes_that_are_held_out_are_phages(install_mmseqs, genome_in, gene):
    install_mmseqs()
    bacterial = gene(genome_in(TEST))
    transcript = gene(genome_in(TRAIN), TRANSCRIPT)
    genes = [
        bacterial,
        transcript,
        gene(genome_in(TRAIN), VIRUS, like=bacterial),
        gene(genome_in(VALIDATION), VIRUS, like=bacterial),
        gene(genome_in(TEST), VIRUS, like=transcript),
        gene(genome_in(TEST), OTHER, like=bacterial),
    ]
    split = split_genes(genes, SHARES, Likeness(), threads=1)
    assert split.phages == {genes[3].genome}


def test_mmseqs_is_asked_for_what_counts_as_similar(install_mmseqs, genome_in, gene):
    calls = install_mmseqs()
    split_genes([gene(genome_in(TEST))], SHARES, Likeness(0.4, 0.6, 7.0), threads=3)
    asked = f" {calls.read_text().strip()} "
    assert asked.startswith(" easy-search ")
    for option in ("--min-seq-id 0.4", "-c 0.6", "--cov-mode 5", "-s 7.0", "--threads 3"):
        assert f" {option} " in asked


def test_pairs_are_of_other_genes_and_of_the_queries_only(install_mmseqs, genome_in, gene):
    install_mmseqs()
    first = gene("a")
    genes = [first, gene("b", like=first), gene("c", like=first), gene("d")]
    query, target = similar_pairs(genes, [1, 3], Likeness(), threads=1)
    assert sorted(zip(query.tolist(), target.tolist(), strict=True)) == [(1, 0), (1, 2)]


def test_nothing_similar_is_no_pair(install_mmseqs, gene):
    install_mmseqs()
    query, target = similar_pairs([gene("a"), gene("b")], [0], Likeness(), threads=1)
    assert (query.tolist(), target.tolist()) == ([], [])


def test_nothing_held_out_needs_no_search(install_mmseqs, genome_in, gene):
    calls = install_mmseqs()
    short = Gene("short", "AC", VIRUS, genome_in(TEST))
    split = split_genes([gene(genome_in(TRAIN)), short], SHARES, Likeness(), threads=1)
    assert not calls.exists()
    assert split.parts[TRAIN] == [0]


def test_a_failure_tells_what_mmseqs_said(install_mmseqs, genome_in, gene):
    install_mmseqs("#!/bin/sh\necho 'no space left' >&2\nexit 3\n")
    with pytest.raises(UsageError, match=r"mmseqs failed \(3\): no space left"):
        split_genes([gene(genome_in(TEST))], SHARES, Likeness(), threads=1)


def test_without_mmseqs_the_error_says_how_to_get_it(no_mmseqs, genome_in, gene):
    with pytest.raises(UsageError, match="finds no `mmseqs`; install it"):
        split_genes([gene(genome_in(TEST))], SHARES, Likeness(), threads=1)


@pytest.mark.skipif(not shutil.which("mmseqs"), reason="MMseqs2 is not installed")
def test_mmseqs_finds_a_relative_and_nothing_in_random_proteins(coding):
    rng = random.Random(1)
    dna = coding(rng, 250)
    mutated = "".join(
        coding(rng, 1) if rng.random() < 0.42 else dna[i : i + 3] for i in range(0, len(dna), 3)
    )
    same = sum(a == b for a, b in zip(translate(dna), translate(mutated), strict=True)) / 250
    assert same == pytest.approx(0.6, abs=0.04)
    genes = [Gene(str(n), d, OTHER, str(n)) for n, d in enumerate((dna, mutated, coding(rng, 250)))]
    query, target = similar_pairs(genes, [0], Likeness(), threads=1)
    assert (query.tolist(), target.tolist()) == ([0], [1])
