"""Genes of records → sums → numbers → evidence."""

from dataclasses import fields, replace

import numpy as np
import pytest

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.contig_features import (
    contig_features,
    feature_count,
    named_features,
)
from virnuc_dask.modelsets.contig_model import (
    ByLength,
    ContigModel,
    Familiarity,
    Logistic,
    Reader,
    Trees,
)
from virnuc_dask.modelsets.gene_sums import GeneColumns, GeneSums

COLUMNS = 2
WIDTH = feature_count(COLUMNS)


def genes_of(rng: np.random.Generator, counts: list[int]) -> tuple[GeneColumns, np.ndarray]:
    """Random genes of records with so many genes each, records 0, 10, 20, …"""
    record = np.repeat(np.arange(len(counts)) * 10, counts)
    n = len(record)
    start = np.concatenate([np.sort(rng.integers(0, 50_000, count)) for count in counts])
    columns = GeneColumns(
        start=start,
        end=start + rng.integers(60, 4000, n),
        strand=rng.choice(np.array([-1, 1], np.int8), n),
        is_partial=rng.random(n) < 0.2,
        start_type=rng.choice(np.array(["ATG", "GTG", "TTG", "edge"]), n),
        has_rbs=rng.random(n) < 0.5,
        translation_table=rng.choice(np.array([4, 11], np.int8), n),
        is_viral_model=rng.random(n) < 0.5,
        confidence=rng.random(n).astype(np.float32),
        scores=rng.normal(size=(n, 5)).astype(np.float32),
        evidence=rng.normal(size=(n, COLUMNS)).astype(np.float32),
    )
    return columns, record


def part(genes: GeneColumns, rows: slice) -> GeneColumns:
    return GeneColumns(*(getattr(genes, field.name)[rows] for field in fields(genes)))


def test_sums_of_a_record_do_not_depend_on_the_others():
    genes, record = genes_of(np.random.default_rng(0), [3, 1, 9])
    together = GeneSums.of(genes, record)
    for place, rows in enumerate((slice(3), slice(3, 4), slice(4, None))):
        alone = GeneSums.of(part(genes, rows), record[rows])
        assert alone.record_index[0] == together.record_index[place]
        for field in ("largest", "smallest", "highest"):
            np.testing.assert_array_equal(getattr(together, field)[place], getattr(alone, field)[0])
        for field in ("genes", "pairs", "evidence"):
            for name, values in getattr(together, field).items():
                np.testing.assert_array_equal(values[place], getattr(alone, field)[name][0])


def test_sums_say_what_the_genes_are():
    genes, record = genes_of(np.random.default_rng(1), [3])
    genes = replace(
        genes,
        start=np.array([0, 96, 500]),
        end=np.array([100, 300, 1500]),
        strand=np.array([1, 1, -1], np.int8),
        evidence=np.array([[1, 0], [2, 0], [-4, 0]], np.float32),
    )
    sums = GeneSums.of(genes, record)
    found = {name: of[0] for name, of in named_features(sums, np.array([2000.0])).items()}
    assert found["genes_a_kb"] == 1.5
    assert found["coding_density"] == pytest.approx(1304 / 2000)
    assert found["switches"] == 0.5
    assert found["operon_gaps"] == 0.5  # an overlap of four bases
    assert found["gap_nt"] == pytest.approx((-4 + 200) / 2)
    assert found["longest_gene_nt"] == 1000
    assert found["mean_0"] == pytest.approx(-1 / 3)
    assert found["highest_neighbours"] == 1.5
    assert found["largest_0"] == 2
    assert found["both_viral"] == 0.5


def test_numbers_of_records_are_finite_even_of_one_gene():
    genes, record = genes_of(np.random.default_rng(2), [1, 1, 5])
    numbers = contig_features(GeneSums.of(genes, record), np.array([300.0, 500.0, 9000.0]))
    assert numbers.shape == (3, WIDTH)
    assert np.isfinite(numbers).all()


def a_reader(rng: np.random.Generator, trees: Trees) -> Reader:
    curve = ByLength(
        np.array([300.0, 3000.0]),
        np.array([[-2.0, 0.0, 2.0], [-4.0, 0.0, 4.0]]),
        np.array([[-3.0, 0.0, 3.0], [-6.0, 0.0, 6.0]]),
    )
    return Reader(
        columns=COLUMNS,
        logistic=Logistic(np.zeros(WIDTH), np.ones(WIDTH), rng.normal(size=WIDTH), np.zeros(1)),
        trees=trees,
        calibration=curve,
        familiarity=Familiarity(
            np.zeros(WIDTH),
            rng.normal(size=(WIDTH, 3)),
            ByLength(np.array([1000.0]), np.array([[0.0, 1e9]]), np.array([[0.0, 1.0]])),
        ),
    )


def a_leaf() -> Trees:
    none = np.zeros(1, np.int64)
    return Trees(none, none, np.zeros(1), none, none, np.zeros(1))


def test_a_contig_model_is_the_same_after_its_file(tmp_path):
    rng = np.random.default_rng(3)
    genes, record = genes_of(rng, [4, 1, 7])
    sums, length_nt = GeneSums.of(genes, record), np.array([4000.0, 700.0, 20_000.0])
    reader = a_reader(rng, a_leaf())
    model = ContigModel({"genes": reader, "frames": reader}, np.array([3, 4]))
    model.save(tmp_path / "model.safetensors")
    again = ContigModel.load(tmp_path / "model.safetensors")
    for reading in ("genes", "frames"):
        wanted, found = (each.judge(sums, length_nt, reading) for each in (model, again))
        np.testing.assert_array_equal(found.evidence, wanted.evidence)
        np.testing.assert_array_equal(found.reliability, wanted.reliability)
    assert again.viral_models.tolist() == [3, 4]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelSetError, match=r"model\.safetensors: not a contig model"):
        ContigModel.load(path)


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [([0, 0, 0], [0, 0, 0], "leaf"), ([1, 0, 2], [2, 2, 2], "leads back")],
)
def test_trees_that_do_not_end_are_refused(left, right, message):
    ways = (np.array(way, np.int64) for way in (left, right))
    with pytest.raises(ValueError, match=message):
        Trees(np.zeros(1, np.int64), np.zeros(3, np.int64), np.zeros(3), *ways, np.zeros(3))


def test_between_lengths_curves_are_mixed_and_beyond_them_constant():
    curve = a_reader(np.random.default_rng(5), a_leaf()).calibration
    values, lengths = np.full(4, 2.0), np.array([100.0, 300.0, np.sqrt(300 * 3000), 1e6])
    np.testing.assert_allclose(curve.of(values, lengths), [3.0, 3.0, 3.0, 3.0])
    np.testing.assert_allclose(curve.of(np.full(2, 9.0), np.array([300.0, 3000.0])), [3.0, 6.0])


def test_a_curve_that_falls_is_refused():
    with pytest.raises(ValueError, match="ascend"):
        ByLength(np.array([300.0]), np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]))
