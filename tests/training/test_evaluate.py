import numpy as np
import pytest

from virnuc_dask.training.evaluate import auroc, average_precision, full_chunks, quality
from virnuc_dask.training.genes import Gene


def slow_auroc(scores, is_virus):
    pairs = [
        1.0 if virus > other else 0.5 if virus == other else 0.0
        for virus in scores[is_virus]
        for other in scores[~is_virus]
    ]
    return np.mean(pairs)


def slow_average_precision(scores, is_virus):
    called = [scores >= threshold for threshold in scores[is_virus]]
    return np.mean([is_virus[kept].mean() for kept in called])


@pytest.mark.parametrize("decimals", [1, 8])
def test_figures_are_those_of_their_definitions(decimals):
    rng = np.random.default_rng(0)
    is_virus = rng.random(200) < 0.3
    scores = np.round(rng.random(200) + 0.3 * is_virus, decimals)
    assert auroc(scores, is_virus) == pytest.approx(slow_auroc(scores, is_virus))
    expected = slow_average_precision(scores, is_virus)
    assert average_precision(scores, is_virus) == pytest.approx(expected)


def test_quality_leaves_out_what_has_no_score():
    scores = np.array([0.9, 0.5, np.nan, 0.2, 0.5, np.nan])
    figures = quality(scores, np.array([True, True, True, False, False, False]))
    assert (figures["n_virus"], figures["n_others"], figures["n_unscored"]) == (2, 2, 2)
    assert figures["auroc"] == 0.875
    assert (figures["called_of_virus"], figures["called_of_others"]) == (1.0, 0.5)


def test_only_full_length_chunks_count():
    genes = [Gene(f"GeneID:{n}", "A" * n, "virus") for n in (499, 500, 501, 1000)]
    chunks, gene_of = full_chunks(genes, 500)
    assert {len(chunk) for chunk in chunks} == {500}
    assert gene_of.tolist() == [1, 2, 3, 3]
