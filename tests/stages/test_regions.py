from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.region_model import RegionModel, structure
from virnuc_dask.stages.regions import CHUNKS, chunk_regions, number_runs, posterior, with_regions
from virnuc_dask.tables import schemas

MODEL = RegionModel(
    weight=np.array([2.0, 0.0]),
    bias=-0.5,
    most=4.0,
    initial=0.3,
    enter=0.05,
    leave=0.1,
    least_genes=3,
)
MOVES = np.array([[0.95, 0.05], [0.1, 0.9]])


def ways(log_ratio: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Every sequence of states with its likelihood."""
    for states in product((0, 1), repeat=len(log_ratio)):
        likelihood = (0.7, 0.3)[states[0]]
        for left, right in pairwise(states):
            likelihood *= MOVES[left, right]
        yield np.array(states), likelihood * np.exp(log_ratio @ np.array(states))


def probability_by_all_ways(log_ratio: np.ndarray) -> np.ndarray:
    total = sum(likelihood for _, likelihood in ways(log_ratio))
    return sum(states * likelihood for states, likelihood in ways(log_ratio)) / total


@settings(max_examples=40)
@given(st.lists(st.lists(st.floats(-4, 4), min_size=1, max_size=6), min_size=1, max_size=5))
def test_a_genes_probability_is_that_of_all_ways_through_its_record(records):
    record = np.repeat(np.arange(len(records)) * 7, [len(r) for r in records])
    found = posterior(np.concatenate(records), record, MODEL).viral
    expected = np.concatenate([probability_by_all_ways(np.array(r)) for r in records])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_long_records_of_sure_genes_have_a_probability():
    sure = replace(MODEL, most=50.0)
    ratio = np.repeat([50.0, -50.0, 50.0], 20_000)
    found = posterior(ratio, np.zeros(60_000, np.int64), sure)
    np.testing.assert_allclose(found.viral, ratio > 0, atol=1e-9)
    assert np.isfinite(found.log_stays).all()


@pytest.mark.parametrize(
    ("viral", "record", "number"),
    [
        ("1111", "0000", "1111"),
        ("110111", "000000", "000111"),
        ("111011110111", "000000000000", "111022220333"),
        ("111111", "000111", "111111"),
        ("1110111111", "0000000222", "1110222111"),
        ("1111", "0011", "0000"),
        ("0000", "0011", "0000"),
        ("", "", ""),
    ],
)
def test_regions_are_runs_within_a_record_counted_from_one(viral, record, number):
    flags = np.array([letter == "1" for letter in viral], bool)
    records, numbers = (
        np.array([int(letter) for letter in text], np.int64) for text in (record, number)
    )
    assert number_runs(flags, records, 3).tolist() == numbers.tolist()


ALL_WAYS = list(ways(np.array([-4.0] * 4 + [3.5] * 5)))
NO_VIRUS = sum(w for states, w in ALL_WAYS if not states[4:].any()) / sum(w for _, w in ALL_WAYS)


def genes_of(logits: list[float], records: list[int]) -> pa.Table:
    rows = len(logits)
    schema = schemas.gene_predictions(2)
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    given = dict.fromkeys(texts, [""] * rows) | {
        "record_id": [f"r{record}" for record in records],
        "record_index": records,
        "start": [100 * row for row in range(rows)],
        "end": [100 * row + 90 for row in range(rows)],
        "evidence": [[logit, 9.0] for logit in logits],
    }
    return schemas.filled(schema, given, rows)


def test_a_region_goes_from_its_first_genes_start_to_its_last_ones_end():
    genes, regions = with_regions(
        genes_of([-2.0] * 4 + [2.0] * 5 + [2.0] * 4, [0] * 9 + [3] * 4), MODEL
    )
    assert genes.schema == schemas.GENES
    assert genes["region"].to_pylist() == [None] * 4 + [1] * 9
    chance = genes["viral_probability"].to_numpy()
    assert regions.schema == schemas.REGIONS
    first, second = regions.to_pylist()
    assert first.pop("probability") == pytest.approx(1 - NO_VIRUS, rel=1e-9)
    assert first.pop("evidence") == pytest.approx(5 * 3.5 / np.sqrt(5))
    assert first == {
        "record_id": "r0",
        "record_index": 0,
        "region": 1,
        "start": 400,
        "end": 890,
        "genes": 5,
        "score": pytest.approx(chance[4:9].mean()),
    }
    assert (second["record_id"], second["start"], second["end"]) == ("r3", 900, 1290)


def test_without_a_model_of_regions_there_are_none():
    genes, regions = with_regions(genes_of([2.0] * 4, [0] * 4), None)
    assert genes["region"].null_count == genes["viral_probability"].null_count == 4
    assert len(regions) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("enter", 0.0), ("leave", 1.0), ("most", 51.0), ("least_genes", 0), ("bias", np.nan)),
        *(("structure", np.zeros(3)), ("structure", np.array([np.inf, 0.0]))),
        *(("false_rates", np.array(of)) for of in ([[1, 0], [2, 1]], [[0, 1], [1, 2]], [[0]])),
    ],
)
def test_a_model_that_cannot_be_is_refused(name, value):
    with pytest.raises(ValueError, match="regions"):
        replace(MODEL, **{name: value})


def test_a_model_comes_back_from_its_file(tmp_path):
    rates = np.array([[0.0, 5.0], [0.5, 0.01]])
    model = replace(MODEL, structure=np.array([0.5, -0.25]), false_rates=rates)
    path = tmp_path / "model.safetensors"
    ContigModel({}, np.array([2]), model).save(path)
    again = ContigModel.load(path).regions
    assert again.weight.tolist() == model.weight.tolist()
    assert again.structure.tolist() == [0.5, -0.25]
    assert again.false_rates.tolist() == model.false_rates.tolist()
    arrays = {name: getattr(MODEL, name) for name in ("weight", "structure", "false_rates")}
    assert replace(again, **arrays) == MODEL
    newer = ("structure", "false_rates")
    save_file({k: v for k, v in load_file(path).items() if not k.endswith(newer)}, path)
    older = ContigModel.load(path).regions
    assert older.structure.tolist() == [0, 0], "an older file has none"
    assert older.false_rates.shape == (2, 0)


def test_structure_is_the_mean_of_both_neighbours_of_a_record():
    record = np.array([0, 0, 0, 0, 5, 7, 7])
    start = np.array([0, 100, 250, 900, 0, 0, 95])
    end = np.array([100, 200, 500, 990, 90, 105, 300])
    strand = np.array(["+", "+", "-", "-", "+", "-", "-"])
    closeness, same = structure(record, start, end, strand).T
    assert closeness.tolist() == [0.5, 0.75, -0.75, -1, 0, 0.5, 0.5]
    assert same.tolist() == [0.5, 0, 0, 0.5, 0, 0.5, 0.5]
    assert structure(*(column[:0] for column in (record, start, end, strand))).shape == (0, 2)


def test_neighbours_on_the_same_strand_make_a_region():
    genes = genes_of([0.3] * 8, [0] * 8)
    strands = {alike: ["+"] * 8 if alike else ["+", "-"] * 4 for alike in (True, False)}
    model = replace(MODEL, structure=np.array([0.0, 1.0]))
    for alike, strand in strands.items():
        at = genes.column_names.index("strand")
        _, regions = with_regions(genes.set_column(at, "strand", pa.array(strand)), model)
        assert len(regions) == alike


def chunks_of(scores: list[list[float | None]]) -> pa.Table:
    """Chunks of 500 nt of records with these scores, one with a score that is None has none."""
    flat = [(record, place, s) for record, of in enumerate(scores) for place, s in enumerate(of)]
    ids, virus = [f"r{record}" for record, _, _ in flat], [s for *_, s in flat]
    given = dict.fromkeys(("chunk_id", "call", "reason"), [""] * len(flat)) | {
        "record_id": ids,
        "record_index": [record for record, _, _ in flat],
        "start": [450 * place for _, place, _ in flat],
        "end": [450 * place + 500 for _, place, _ in flat],
        "score_virus": pa.array(virus, pa.float32()),
        "score_others": pa.array([None if s is None else 1 - s for s in virus], pa.float32()),
    }
    return schemas.filled(schemas.CHUNKS, given, len(flat))


def test_chunks_make_a_region_where_many_are_viral_and_not_where_few_are():
    host, virus = [0.05] * 30, [0.95] * 20
    few = [*host, *[0.95] * 5, *host]
    with_gap = [*host, *virus[:10], None, *virus[10:], *host]
    read, whole = [0.99] * 2, [0.9] * 4
    regions = chunk_regions(chunks_of([host, few, with_gap, read, whole]), None)
    assert regions.schema == schemas.REGIONS
    inner, all_of_it = regions.to_pylist()
    assert (inner["record_id"], inner["start"], inner["end"]) == ("r2", 30 * 450, 50 * 450 + 500)
    assert inner["genes"] == 21
    assert inner["probability"] > 0.99
    assert (all_of_it["record_id"], all_of_it["genes"]) == ("r4", 4)


def test_a_chunks_evidence_is_its_calibrations():
    chunks = chunks_of([[0.6] * 9])
    at = float(np.log(0.6 / 0.4)) * 2
    for height, found in ((3.0, 1), (-3.0, 0)):
        knots = ((at - 0.01, height), (at + 0.01, height))
        assert len(chunk_regions(chunks, Calibration(knots, 0.0, 0.0, knots, "m"))) == found
    assert CHUNKS.least_genes == 3
    assert len(chunk_regions(chunks.slice(0, 0), None)) == 0
