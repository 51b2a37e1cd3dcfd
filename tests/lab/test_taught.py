import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.lab.taught import TEST, Fragments, Prepared, Texts


@pytest.fixture
def texts(tmp_path):
    """A gene of each of five fragments, then four markers."""
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
    pq.write_table(pa.table(fragments), tmp_path / "fragments.parquet")
    large = pa.array(["A"] * 5, pa.large_string())
    genes = {"fragment": range(5), "dna": large, "peptide": large, "doubtful": [True] * 2 + 3 * [0]}
    genes["doubtful"] = np.array(genes["doubtful"], bool)
    pq.write_table(pa.table(genes), tmp_path / "genes.parquet")
    markers = {
        "dna": large[:4],
        "peptide": large[:4],
        "kind": ["virus", "other", "transcript", "virus"],
        "group": ["a", "m", "m", "n"],
        "similar_to": pa.array([0, 1, 1 << 5, 1 << 1], pa.uint8()),
    }
    pq.write_table(pa.table(markers), tmp_path / "markers.parquet")
    return Texts.read(Prepared.of(tmp_path, ""))


@pytest.mark.parametrize(
    ("held_out", "taught"),
    [
        (0, [3 + 2, 3 + 5]),  # markers 0 and 3
        (1, [0, 4, 5, 6]),
        (TEST, [0, 4, 5, 6, 8]),
        (None, [0, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_what_is_held_out_and_what_is_like_it_is_not_taught(texts, held_out, taught):
    assert np.flatnonzero(texts.may_teach(held_out)).tolist() == taught


def test_only_others_are_doubtful(texts):
    assert texts.is_sure.tolist() == [True, False, *[True] * 7]


def test_a_phage_is_in_no_group_of_its_hosts_nor_of_markers(texts):
    phage, host, *_, last = texts.group[:5]
    assert phage != host
    assert host == last
    assert not set(texts.group[:5]) & set(texts.group[5:])


def test_markers_are_kinds_of_their_own(texts):
    kinds = ["viral_marker", "other_marker", "transcript", "viral_marker"]
    assert texts.kind[5:].tolist() == kinds


def test_tiles_of_a_genome_and_one_round_belong_together(texts, tmp_path):
    genome = Fragments.read(tmp_path / "fragments.parquet").genome.tolist()
    assert genome[0] == genome[2] != genome[3]
    assert genome[1] == genome[4]
    assert len(set(genome)) == 3
