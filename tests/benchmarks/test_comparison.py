import numpy as np
import pyarrow.parquet as pq
import pytest
from comparison import RankedChunks, compare, full_chunks, score_chunks
from sklearn.metrics import average_precision_score, roc_auc_score

from virnuc_dask import run
from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.pretraining.genes import TEST
from virnuc_dask.pretraining.material import write_genes


@pytest.fixture(scope="module")
def chunks(material):
    return full_chunks(material, TEST, 300)


def random_scores(chunks, shift, seed=0):
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(size=len(chunks.table)) + shift * chunks.is_virus, 1)


def test_full_chunks_are_those_of_the_genes(chunks, material):
    genes = material.parts[TEST]
    assert {len(sequence) for sequence in chunks.sequences} == {300}
    assert set(chunks.group) == {"phages", "other_viruses", "prokaryotes", "transcripts"}
    for sequence, gene, label in zip(
        chunks.sequences, chunks.gene.tolist(), chunks.is_virus, strict=True
    ):
        assert sequence in genes[gene].dna
        assert label == genes[gene].is_virus


def test_a_choice_of_chunks_has_so_many_of_each_class(chunks):
    few = chunks.at_most(20)
    assert np.bincount(few.is_virus).tolist() == [20, 20]
    assert few.table.equals(chunks.at_most(20).table)
    assert chunks.at_most(10**6).table.equals(chunks.table)


def test_model_sets_score_chunks_as_a_run_does(chunks, material, tmp_path):
    paths = write_genes(material, TEST, tmp_path / "genes")
    settings = Settings(model="mini", length=300, cluster=ClusterSettings(kind="none"))
    scores = score_chunks(load_modelset("mini", device="cpu"), chunks.table)
    ours = dict(zip(chunks.table["chunk_id"].to_pylist(), scores.tolist(), strict=True))
    done = run(list(map(str, paths.values())), tmp_path / "run", settings=settings)
    table = pq.read_table(done.folder / "chunks.parquet").to_pylist()
    full = {row["chunk_id"]: row for row in table if row["end"] - row["start"] == 300}
    assert full.keys() == ours.keys()
    for name, row in full.items():
        assert ours[name] == pytest.approx((1 + row["score_virus"] - row["score_others"]) / 2)


def test_figures_of_a_resample_are_those_of_weighted_chunks(chunks):
    scores = random_scores(chunks, 1.0)
    ranked = RankedChunks(scores, chunks.is_virus, chunks.gene)
    drawn = np.random.default_rng(1).integers(0, 3, len(chunks.group))
    weights = drawn[chunks.gene]
    found = ranked.auroc(drawn), ranked.average_precision(drawn)
    expected = (
        roc_auc_score(chunks.is_virus, scores, sample_weight=weights),
        average_precision_score(chunks.is_virus, scores, sample_weight=weights),
    )
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_resample_without_a_virus_has_no_average_precision(chunks):
    ranked = RankedChunks(random_scores(chunks, 1.0), chunks.is_virus, chunks.gene)
    assert np.isnan(ranked.average_precision((~chunks.gene_is_virus).astype(int)))


def test_compares_over_all_and_every_viral_group_with_every_other(chunks):
    scores = {"good": random_scores(chunks, 2.0), "bad": random_scores(chunks, 0.5, seed=1)}
    found = compare(scores, chunks)
    assert [(each["virus"], each["others"]) for each in found] == [
        ("all", "all"),
        ("other_viruses", "prokaryotes"),
        ("other_viruses", "transcripts"),
        ("phages", "prokaryotes"),
        ("phages", "transcripts"),
    ]
    assert found[0]["n_virus"] == found[1]["n_virus"] + found[3]["n_virus"]
    for each in found:
        good, bad = each["ways"]["good"], each["ways"]["bad"]
        assert "auroc_above_first" not in good
        assert bad["auroc_above_first"] == pytest.approx(bad["auroc"] - good["auroc"], abs=2e-6)
        for name in ("auroc", "average_precision"):
            low, high = bad[f"{name}_interval"]
            assert low <= bad[name] <= high
            low, high = bad[f"{name}_above_first_interval"]
            assert low <= bad[f"{name}_above_first"] <= high < 0


def test_a_way_that_differs_in_nothing_has_no_difference(chunks):
    scores = random_scores(chunks, 1.0)
    for each in compare({"one": scores, "same": scores}, chunks):
        assert each["ways"]["same"]["auroc_above_first_interval"] == [0.0, 0.0]


def test_pairs_see_only_their_own_chunks(chunks):
    scores = random_scores(chunks, 1.0)
    hidden = np.where(chunks.group[chunks.gene] == "transcripts", -100.0, scores)
    before, after = (compare({"way": values}, chunks) for values in (scores, hidden))
    assert before[1] == after[1]
    assert after[2]["ways"]["way"]["auroc"] == 1.0


def test_unscored_chunks_are_counted_and_left_out(chunks):
    scores = random_scores(chunks, 1.0)
    scores[np.flatnonzero(chunks.is_virus)[:5]] = np.nan
    overall = compare({"way": scores}, chunks)[0]
    assert overall["unscored"] == 5
    assert overall["n_virus"] == chunks.is_virus.sum() - 5


def test_ways_that_score_other_chunks_are_refused(chunks):
    scores = random_scores(chunks, 1.0)
    fewer = np.where(np.arange(len(scores)) == 3, np.nan, scores)
    with pytest.raises(ValueError, match="do not score the same chunks"):
        compare({"one": scores, "other": fewer}, chunks)
