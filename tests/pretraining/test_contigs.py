import random

import pytest

from virnuc_dask.pretraining.contigs import LONGEST_NT, SHORTEST_NT, draw_contigs
from virnuc_dask.pretraining.genes import GENOME, OTHER, TRANSCRIPT, VIRUS, Gene


def gene(name, genome, kind, length=900):
    rng = random.Random(name)
    return Gene(name, "".join(rng.choices("ACGT", k=length)), kind, genome)


@pytest.fixture(scope="module")
def genes():
    viral = [gene(f"GeneID:{n}", f"GeneID:{n // 50}", VIRUS) for n in range(100, 150)]
    others = [
        gene(f"gi|1|ref|NC_1.1|:c{n + 899}-{n}", "NC_1", OTHER) for n in range(1, 99_999, 999)
    ]
    transcripts = [gene(f"gi|{n}|ref|XM_{n}.1|", "XM:0", TRANSCRIPT) for n in range(5)]
    genomes = [gene("chromosome", "a.fna", GENOME, 400_000), gene("plasmid", "a.fna", GENOME, 600)]
    everything = [*viral, *others, *transcripts, *genomes]
    return random.Random(0).sample(everything, len(everything))


@pytest.fixture(scope="module")
def contigs(genes):
    return draw_contigs(genes)


def joined(genes, kind, order):
    return "".join(g.dna for g in sorted((g for g in genes if g.kind == kind), key=order))


def test_contigs_are_pieces_of_genes_joined_in_order(genes, contigs):
    sources = {
        VIRUS: joined(genes, VIRUS, lambda g: int(g.name[7:])),
        OTHER: joined(genes, OTHER, lambda g: int(g.name.split(":c")[1].split("-")[0])),
        TRANSCRIPT: joined([g for g in genes if g.kind == TRANSCRIPT], TRANSCRIPT, lambda g: 0),
    }
    for contig in contigs:
        if contig.kind != GENOME:
            assert contig.dna in sources[contig.kind]
    assert {c.kind for c in contigs} == {VIRUS, OTHER, TRANSCRIPT, GENOME}


def test_pieces_of_whole_genomes_span_no_two_records(genes, contigs):
    chromosome, plasmid = (
        next(g.dna for g in genes if g.name == name) for name in ("chromosome", "plasmid")
    )
    pieces = [c.dna for c in contigs if c.kind == GENOME]
    assert all((piece in chromosome) != (piece in plasmid) for piece in pieces)
    assert sum(piece in chromosome for piece in pieces) == 17


def test_lengths_lie_between_the_bounds_and_short_ones_are_as_many(genes):
    many = [replaced for seed in range(20) for replaced in draw_contigs(genes, seed)]
    lengths = sorted(len(c.dna) for c in many if c.genome == "a.fna" and len(c.dna) != 600)
    assert SHORTEST_NT <= lengths[0] < 1.1 * SHORTEST_NT
    assert 0.9 * LONGEST_NT < lengths[-1] <= LONGEST_NT
    assert lengths[len(lengths) // 2] == pytest.approx((SHORTEST_NT * LONGEST_NT) ** 0.5, rel=0.25)


def test_each_knows_its_label_and_genome_and_has_a_name_of_its_own(contigs):
    genome_of = {VIRUS: {"GeneID:2"}, OTHER: {"NC_1"}, TRANSCRIPT: {"XM:0"}, GENOME: {"a.fna"}}
    for kind, genomes in genome_of.items():
        assert {c.genome for c in contigs if c.kind == kind} == genomes
    assert len({c.name for c in contigs}) == len(contigs)
    assert all(c.name.startswith(f"{c.kind}_") for c in contigs)


def test_the_same_genes_give_the_same_contigs(genes, contigs):
    assert draw_contigs(genes) == contigs
    assert draw_contigs(genes, seed=1) != contigs


def test_a_lone_gene_is_drawn_whole_only_once():
    genes = [gene("phage", "phage", VIRUS), gene("bacterium", "bacterium", OTHER)]
    contigs = draw_contigs(genes)
    assert len({c.dna for c in contigs}) == len(contigs)
    assert [c.dna for c in contigs].count(genes[0].dna) == 1


def test_genomes_too_short_give_none():
    assert draw_contigs([gene("a", "a", VIRUS, SHORTEST_NT - 1)]) == []
    assert {len(c.dna) for c in draw_contigs([gene("a", "a", VIRUS, SHORTEST_NT)])} == {SHORTEST_NT}
