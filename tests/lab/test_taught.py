import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.lab.markers import TEST_BIT
from virnuc_dask.lab.taught import TEST, Prepared, Texts


@pytest.fixture
def prepared(tmp_path):
    """A gene of each of five fragments, then four markers."""
    prepared = Prepared.of(tmp_path, "")
    fragments = {
        "class": ["phage", "prokaryote", "phage", "phage", "prokaryote"],
        "record": ["p:5-8", "b", "p:0-5", "p:5-8", "b"],
        "round": pa.array([0, 0, 0, 1, 0], pa.int8()),
        "group": ["a", "a", "b", "c", "a"],
        "length_nt": [300] * 5,
        "fold": pa.array([0, 1, -1, -2, 0], pa.int8()),
        "doubtful": [True, True, False, False, False],
        "prophage": [False] * 5,
    }
    pq.write_table(pa.table(fragments), prepared.fragments)
    text = pa.array(["A"] * 5, pa.large_string())
    genes = {"fragment": range(5), "dna": text, "peptide": text, "doubtful": fragments["doubtful"]}
    pq.write_table(pa.table(genes), prepared.genes)
    markers = {
        "dna": text[:4],
        "peptide": text[:4],
        "kind": ["virus", "other", "transcript", "virus"],
        "group": ["a", "m", "m", "n"],
        "similar_to": [0, 1, 1 << TEST_BIT, 1 << 1],
    }
    pq.write_table(pa.table(markers), prepared.markers)
    return prepared


@pytest.mark.parametrize(
    ("held_out", "taught"),
    [
        (0, [3 + 2, 3 + 5]),  # markers 0 and 3
        (1, [0, 4, 5, 6]),
        (TEST, [0, 4, 5, 6, 8]),
        (None, [0, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_what_is_held_out_and_what_is_like_it_is_not_taught(prepared, held_out, taught):
    assert np.flatnonzero(Texts.read(prepared).may_teach(held_out)).tolist() == taught


def test_kinds_and_groups_are_kept_apart_and_only_others_are_doubtful(prepared):
    texts = Texts.read(prepared)
    assert texts.is_sure.tolist() == [True, False, *[True] * 7]
    kinds = ["viral_marker", "other_marker", "transcript", "viral_marker"]
    assert texts.kind[5:].tolist() == kinds
    phage, host, *_, last = texts.group[:5]
    assert phage != host == last
    assert not set(texts.group[:5]) & set(texts.group[5:])
