import numpy as np

from virnuc_dask.training.evaluate import full_chunks, genome_quality
from virnuc_dask.training.genes import Gene


def test_only_full_length_chunks_count():
    genes = [Gene(f"GeneID:{n}", "A" * n, "virus") for n in (499, 500, 501, 1000)]
    chunks, gene_of = full_chunks(genes, 500)
    assert {len(chunk) for chunk in chunks} == {500}
    assert gene_of.tolist() == [1, 2, 3, 3]


def test_genomes_are_called_by_the_threshold_given(tmp_path):
    fasta = tmp_path / "genome.fasta"
    fasta.write_text(f">a\n{'A' * 6000}\n>b\n{'C' * 5000}\n>short\n{'A' * 4999}\n")

    def score(chunks):
        return np.array([0.5 if "A" in chunk else 0.25 for chunk in chunks])

    found = [genome_quality(score, fasta, 500, threshold) for threshold in (0.25, 0.5, 0.75)]
    assert [figures["called_virus"] for figures in found] == [2, 1, 0]
    assert [figures["nt_called_virus"] for figures in found] == [11_000, 6_000, 0]
    assert found[0]["highest_score"] == 0.5
    assert found[0]["chunks_called_virus"] == round(12 / 22, 4)
