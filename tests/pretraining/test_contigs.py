import numpy as np
import pytest

from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.contigs import calibrate, contig_scores, pseudo_contigs
from virnuc_dask.pretraining.genes import OTHER, TRANSCRIPT, VIRUS, Gene, neighbourhood_of


def viral(block, count):
    return [
        Gene(f"GeneID:{50 * block + n}", chr(65 + n) * 100, VIRUS) for n in reversed(range(count))
    ]


def others(accession, count):
    name = f"gi|{accession}|ref|NZ_{accession}.1|"
    return [
        Gene(f"{name}:c{100 * n + 99}-{100 * n}", chr(97 + n) * 100, OTHER)
        for n in reversed(range(count))
    ]


def test_genes_of_one_source_follow_each_other():
    genes = [*viral(1, 20), *others(7, 20), *viral(2, 8), *others(8, 5)]
    contigs = pseudo_contigs(genes)
    assert [contig.is_virus for contig in contigs].count(True) == 8
    assert [c.source for c in contigs if not c.is_virus] == ["NZ_7.1", "NZ_8.1"]
    for contig in contigs:
        members = [ord(letter) for letter in contig.dna[::100]]
        assert 5 <= len(members) <= 30
        assert members == list(range(members[0], members[0] + len(members)))
        assert contig.is_virus == (members[0] < 97)
        assert contig.is_virus == contig.source.startswith("GeneID:")


def test_the_same_genes_give_the_same_contigs():
    genes = [*viral(1, 40), *others(7, 40)]
    assert pseudo_contigs(genes) == pseudo_contigs(genes)


def test_small_sources_and_transcripts_are_left_out():
    transcripts = [Gene(f"gi|9|ref|XM_9.1|:{n}-9", "ACGT", TRANSCRIPT) for n in range(9)]
    assert pseudo_contigs([*viral(1, 4), *others(7, 4), *transcripts]) == []


def test_all_genes_of_an_accession_are_one_neighbourhood():
    assert len({neighbourhood_of(gene.name) for gene in others(7, 20)}) == 1
    assert len({neighbourhood_of(gene.name) for gene in viral(1, 20)}) == 1


def test_a_contig_has_the_mean_of_its_scored_chunks():
    def score(chunks):
        values = {"A": 1.0, "C": 0.5, "N": np.nan}
        return np.array([values[chunk[0]] for chunk in chunks])

    contigs = ["A" * 300 + "C" * 300 + "N" * 300, "N" * 100, "C" * 900]
    scores, of_chunks = contig_scores(score, contigs, 300)
    np.testing.assert_array_equal(scores, [0.75, np.nan, 0.5])
    assert len(of_chunks) == 7


def test_calibrates_in_the_middle_of_the_gap():
    def score(chunks):
        return np.array([0.4 if chunk[0].isupper() else 0.1 for chunk in chunks])

    genes = [*viral(1, 20), *others(7, 20)]
    calibration = calibrate(score, genes, (500, 300))
    assert calibration.contig_threshold == 0.25
    assert "on 4 viral and 1 other validation" in calibration.method


def test_one_kind_of_genes_cannot_be_calibrated():
    with pytest.raises(BadInputError, match="too few validation genes"):
        calibrate(lambda chunks: np.zeros(len(chunks)), viral(1, 20), (500,))
